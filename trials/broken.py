"""Break copies of vaults on purpose, one change each, and look whether the trial that must find it does.

    python trials/broken.py [--only TRIAL] [--rounds N] [--seed S]

A trial is to be believed after it has failed. Each entry of BREAKAGES is one mistake that somebody could make: a text of
vaults/, which stands there exactly once, what stands in its place in the copy, and the arguments of the trial that must
find it. The trial is run in a copy of the whole tree, and must end with a broken promise, not by failing itself. Tries
as many breakages as there are rounds, drawn by the seed; --rounds 0 tries all, and each trial also without a mistake,
with the same arguments: then it must pass. Prints the table that docs/reliability.md keeps; exits with 1 when a breakage
was not found.
"""
from __future__ import annotations

import os
import pathlib
import random
import shutil
import sys
import tempfile
import time
from typing import Dict, List, NamedTuple, Tuple

from shared import ROOT
from shared.processes import run
from shared.verdict import BROKEN, PROMISES, Trial

FOLDERS = ('vaults', 'trials', 'spec', 'benchmarks', 'testdata')  # of which some trial needs something
HANGS = 600  # seconds, for a trial


class Breakage(NamedTuple):
    what: str            # is wrong
    file: str            # of vaults/
    text: str            # in it, once
    instead: str
    arguments: str = ''  # of the trial


# By the name of the trial that must find them.
BREAKAGES: Dict[str, List[Breakage]] = {

    'kill': [
        Breakage('put_many is no transaction', 'stores/sqlite/store.py',
                 'self.transact(lambda: c.raw.many(PUT, _counted(c, pairs)))', 'c.raw.many(PUT, _counted(c, pairs))',
                 '--only put_many --rounds 40'),
        Breakage('a deletion and its count are two commits', 'stores/sqlite/store.py',
                 'self.transact(lambda: self._delete(self.local.c, key))', 'self._delete(self.local.c, key)',
                 '--only del --rounds 60'),
        Breakage('a move to the front is two commits', 'stores/sqlite/store.py',
                 'self.transact(lambda: self._move(self.local.c, key, last))', 'self._move(self.local.c, key, last)',
                 '--only move --rounds 60'),
        Breakage('opening deletes the log that it finds', 'stores/sqlite/opening.py',
                 '    new = is_new(file)\n',
                 '    new = is_new(file)\n    if os.path.exists(file.path + WAL_FILE):\n'
                 '        os.unlink(file.path + WAL_FILE)\n', '--only put --rounds 20'),
        Breakage('no journal', 'stores/sqlite/opening.py', "'PRAGMA journal_mode = WAL'", "'PRAGMA journal_mode = OFF'",
                 '--only block --rounds 40'),
        Breakage('a backup is made under its own name', 'files.py', '        self.part = f',
                 '        self.part = path\n        self.unused = f', '--only backup --rounds 60'),
        Breakage('a change of a list is several commits', 'collections/sequence.py', 'return store.transact(changed)',
                 'return changed()', '--only list --only column --rounds 60'),
    ],

    'crowd': [
        Breakage('a block begins without the write lock', 'stores/sqlite/schema.py', "BEGIN = 'BEGIN IMMEDIATE'",
                 "BEGIN = 'BEGIN'", '--mix 8x8 --rounds 300'),
        Breakage('a block in a block is not undone', 'stores/sqlite/transactions.py', 'c.raw.execute(UNDO[depth])', 'pass',
                 '--mix 8x8 --rounds 300'),
        Breakage('a walk visits what was added since', 'stores/sqlite/scan.py', 'self.newest = store.newest(c)',
                 'self.newest = SIGN - 2', '--mix 8x8 --rounds 300'),
        Breakage('a walk yields what was deleted since', 'stores/sqlite/store.py',
                 'self.deletions += 1\n        return bool(rows)', 'pass\n        return bool(rows)', '--mix 1x32 --rounds 300'),
        Breakage('an id is given twice', 'stores/sqlite/store.py', 'if self.newest(c) < deleted:', 'if False:',
                 '--mix 8x8 --rounds 300'),
        Breakage('pop() reads and deletes in two transactions', 'vault.py', 'value = self._store.transact(take)',
                 'value = take()', '--mix 32x1 --rounds 1000'),
        Breakage('setdefault() looks and puts in two transactions', 'vault.py', 'return self._store.transact(settle)',
                 'return settle()', '--mix 32x1 --rounds 1000'),
        Breakage('an append is several commits', 'collections/sequence.py', 'store.transact(add)', 'add()',
                 '--mix 32x1 --rounds 1000'),
    ],

    'waits': [
        Breakage('who meets a lock does not try again', 'stores/sqlite/retry.py', "while store.file.journal == 'wal' and",
                 'while False and', '--part writers'),
        Breakage('readers and writers wait for each other', 'stores/sqlite/opening.py', "'PRAGMA journal_mode = WAL'",
                 "'PRAGMA journal_mode = DELETE'", '--part readers'),
        Breakage('the log is never moved', 'stores/sqlite/checkpoint.py',
                 'return c.written - c.checkpointed > CHECKPOINT or is_long(path)', 'return False', '--part log'),
        Breakage('who waits looks ever more seldom', 'stores/sqlite/retry.py',
                 'min(waited, LONGEST * (1 - waited / timeout))', 'waited', '--part writers --rounds 6'),
    ],

    'leaks': [
        Breakage('a closed connection stays open', 'stores/sqlite/connection.py', 'if self.pid != os.getpid():', 'if True:',
                 '--only opening'),
        Breakage('the guard keeps its handles', 'stores/sqlite/guard.py', '            os.close(handle)\n',
                 '            handle\n', '--only opening'),
        Breakage('stores that nobody holds are kept', 'stores/sqlite/fork.py', 'open_stores: WeakSet[SQLiteStore] = WeakSet()',
                 'open_stores: set = set()', '--only dropping'),
        Breakage('a fork leaves its pipe open', 'stores/sqlite/fork.py', '        os.close(read)\n', '', '--only forks'),
    ],

    'moving': [
        Breakage('an import is collected before it is put', 'stores/sqlite/store.py', '_counted(c, pairs)))',
                 '_counted(c, list(pairs))))', '--only csv'),
        Breakage('a walk keeps the pages that it has handed out', 'stores/sqlite/scan.py', 'yield walk.ready.pop()',
                 'yield walk.ready[-1]', '--only csv'),
        Breakage('a transaction stays in memory until it ends', 'stores/sqlite/schema.py', 'CACHE = 16 << 20',
                 'CACHE = 1 << 30', '--only jsonlines'),
    ],

    'power': [
        Breakage('a new file gets its name before it is synced', 'files.py', 'os.fsync(self._file.fileno())',
                 'self._file.flush()'),
        Breakage('a new name is not synced', 'files.py', 'os.fsync(folder)', 'os.fstat(folder)'),
        Breakage("'FULL' is taken for 'NORMAL'", 'stores/sqlite/connection.py', "f'PRAGMA synchronous = {synchronous}'",
                 "'PRAGMA synchronous = NORMAL'"),
        Breakage('nothing is synced', 'stores/sqlite/connection.py', "f'PRAGMA synchronous = {synchronous}'",
                 "'PRAGMA synchronous = OFF'"),
        Breakage('sync() commits without a sync', 'stores/sqlite/upkeep.py', "c.execute('PRAGMA synchronous = FULL')",
                 'c.execute(store.file.synchronous)'),
        Breakage('sync() commits nothing', 'stores/sqlite/upkeep.py', '(c.execute(MARK_ONE), c.execute(UNMARK_ONE))', 'None'),
        Breakage('the log is moved without a sync', 'stores/sqlite/checkpoint.py', '            store.run(c, BEGIN)\n',
                 "            store.run(c, BEGIN)\n            second.execute('PRAGMA synchronous = OFF')\n"),
        Breakage('a rollback journal ends without a sync of its folder', 'stores/sqlite/opening.py',
                 "'PRAGMA synchronous = EXTRA'", "'PRAGMA synchronous = FULL'"),
        Breakage('put_many is no transaction', 'stores/sqlite/store.py',
                 'self.transact(lambda: c.raw.many(PUT, _counted(c, pairs)))', 'c.raw.many(PUT, _counted(c, pairs))'),
    ],

    'disk': [
        Breakage('a block that fails is committed', 'stores/sqlite/transactions.py',
                 'c.raw.execute(ROLLBACK)\n                c.row, c.lost', 'c.raw.execute(COMMIT)\n                c.row, c.lost',
                 '--part calls'),
        Breakage('a block that fails stays open', 'stores/sqlite/transactions.py',
                 'c.raw.execute(ROLLBACK)\n                c.row, c.lost', 'c.raw.execute\n                c.row, c.lost',
                 '--part calls'),
        Breakage('an inner block that fails is kept', 'stores/sqlite/transactions.py',
                 '                c.raw.execute(UNDO[depth])\n', '', '--part calls'),
        Breakage('half a file stays', 'files.py', '            remove(self.part + ending)', '            self.part',
                 '--part calls --step export --rounds 30'),
        Breakage('an OSError is none of ours', 'files.py', 'raise unwritten(self._what, error) from error', 'raise error',
                 '--part calls --step export --rounds 30'),
        Breakage('a handle stays open', 'files.py', '        os.close(folder)', '        os.fstat(folder)', '--part calls'),
        Breakage('a put raises what sqlite3 does', 'stores/sqlite/store.py',
                 '(driver.Error, OverflowError) as error:\n            once_more(self, error, PUT',
                 'OverflowError as error:\n            once_more(self, error, PUT', '--part calls --step put --rounds 20'),
        Breakage('put_many is no transaction', 'stores/sqlite/store.py',
                 'self.transact(lambda: c.raw.many(PUT, _counted(c, pairs)))', 'c.raw.many(PUT, _counted(c, pairs))',
                 '--part calls --step put_many --rounds 20'),
        Breakage('a put raises because of the checkpoint after it', 'stores/sqlite/statements.py',
                 "log.get_logger().warning('checkpoint of %s put off: %s', self.file.path, error)", 'raise',
                 '--part calls --step checkpoint --rounds 30'),
        Breakage('after a failed sync the vault goes on', 'stores/sqlite/failures.py',
                 'return failure(error) is FAILED_SYNC', 'return False', '--part calls --step sync --rounds 30'),
        Breakage('a folder that cannot be written is taken for one that can', 'stores/sqlite/snapshot.py',
                 "    file.mode = 'mode=ro'\n    return 'immutable'", '    return None', '--part folder'),
    ],

    'rot': [
        Breakage('a read does not look at the checksum', 'stores/sqlite/store.py',
                 'if crc == found or crc == found | HAS_PARTS:', 'if found is not None:'),
        Breakage('a walk over text does not look at the checksums', 'stores/sqlite/scan.py', '== list(crcs):', '!= 1:'),
        Breakage('keys that are numbers have no checksum', 'stores/sqlite/statements.py', 'if crc == expected is not None:',
                 'if expected is not None:'),
        Breakage('a part has no checksum', 'stores/sqlite/parts.py',
                 'type(data) is bytes and crc == part_crc(owner, number, data)', 'type(data) is bytes'),
        Breakage('check() does not ask SQLite', 'stores/sqlite/upkeep.py', "if line != 'ok']", "if line == '']"),
        Breakage('check() does not name the key', 'stores/sqlite/upkeep.py', "problem = f'key {named(key)}: {error}'",
                 "problem = 'key ?'"),
        Breakage('recover() does not look at the checksum', 'stores/sqlite/survey.py',
                 ' or crc & ~(BOOL | HAS_PARTS) != checksum(key, data)', ''),
        Breakage('recover() changes the order', 'stores/sqlite/survey.py', 'self.leaves.sort(key=places.__getitem__)',
                 'self.leaves.reverse()'),
        Breakage('recover() believes a damaged log', 'stores/sqlite/pages.py',
                 "if frame[8:16] != salts or struct.pack('>II', *sums) != frame[16:24]:", 'if frame[8:16] != salts:'),
    ],

    'machine': [
        Breakage('rollback keeps an entry of an inner block', 'stores/sqlite/transactions.py',
                 '                c.raw.execute(UNDO[depth])\n', ''),
        Breakage('who overwrites an entry moves it', 'stores/sqlite/schema.py', 'DO UPDATE\n SET value = excluded.value,',
                 'DO UPDATE\n SET value = excluded.value, id = (SELECT max(id) + 1 FROM entries),'),
        Breakage('True comes back as 1 from update()', 'stores/sqlite/store.py',
                 'written += TOGETHER + len(data)\n        yield key,',
                 'written += TOGETHER + len(data)\n        key = int(key) if type(key) is bool else key\n        yield key,'),
        Breakage('deleting a range spares its first key', 'stores/sqlite/schema.py', '"DELETE FROM entries WHERE key >= ?',
                 '"DELETE FROM entries WHERE key > ?'),
        Breakage('a deletion is counted twice', 'stores/sqlite/schema.py',
                 'MARK_NEWEST = """UPDATE entries SET crc = crc + NOT',
                 'MARK_NEWEST = """UPDATE entries SET crc = crc + 2 * NOT'),
        Breakage('a page of a walk begins with the last row of the one before', 'stores/sqlite/schema.py',
                 'BY_KEY_ON = _both("WHERE key > ?', 'BY_KEY_ON = _both("WHERE key >= ?'),
        Breakage('a vault that is only read is written', 'stores/sqlite/connection.py',
                 "        if file.flag == 'r':\n            self.execute(NO_WRITING)\n", ''),
        Breakage("a fork keeps its parent's connection", 'stores/sqlite/fork.py', '    store.local = _Later(store)\n', ''),
        Breakage('a part is deleted beside the one that is to go', 'stores/sqlite/schema.py',
                 "'DELETE FROM parts WHERE owner = ? AND number = ?'",
                 "'DELETE FROM parts WHERE owner = ? AND number = ? + 1'"),
        Breakage('a tuple comes back as a list', 'codecs/types.py', 'TUPLE: _of_items(tuple)', 'TUPLE: _of_items(list)'),
    ],

    'traps': [
        Breakage('the guard holds no lock', 'stores/sqlite/guard.py', '            self._set(fcntl.F_RDLCK)\n', '',
                 '--only opener'),
        Breakage('nobody looks whether the file is still there', 'stores/sqlite/connection.py',
                 '        if self.is_gone():\n            raise self.gone()',
                 '        if False:\n            raise self.gone()', '--only gone'),
        Breakage('a file that was emptied is the one that was opened', 'stores/sqlite/connection.py',
                 'if status.st_size else None  # an', '  # an', '--only gone --rounds 6'),
        Breakage('damage is an error of another kind', 'stores/sqlite/failures.py',
                 "CORRUPT = Failure(11, 'malformed', VaultCorruptError,",
                 "CORRUPT = Failure(11, 'malformed', type('Oops', (Exception,), {}),", '--only truncated'),
        Breakage('nothing is done after a fork', 'stores/sqlite/fork.py',
                 'after_in_child=_stores_in_child', 'after_in_child=lambda: None', '--only forks'),
        Breakage("a worker commits its parent's block", 'stores/sqlite/fork.py',
                 '            c.raw.execute(ROLLBACK)\n\n\nif hasattr',
                 "            c.raw.execute('COMMIT')\n\n\nif hasattr", '--only forks'),
        Breakage('a vault is not opened anew in a worker', 'stores/sqlite/fork.py',
                 'after_in_child=_stores_in_child', 'after_in_child=lambda: None', '--only pools'),
        Breakage('a commit that is interrupted is not undone', 'stores/sqlite/transactions.py',
                 '        except BaseException:\n            self._undo(*self._broken_off(who, depth))\n            raise\n        if depth < 0:',
                 '        if depth < 0:', '--only interrupts --rounds 4'),
        Breakage('an operation that is interrupted is not rolled back', 'stores/sqlite/transactions.py',
                 '            self._take_back(c, depth, operation)\n            raise\n        return result',
                 '            raise\n        return result', '--only signals --rounds 3'),
        Breakage('a row is taken that a signal handler has taken', 'stores/sqlite/store.py',
                 '            row = c.execute(GET, (key,)).get\n            while row is None:\n                row = c.execute(GET, (key,)).get\n        except',
                 '            row = c.execute(GET, (key,)).get or (None, None)\n        except', '--only handlers'),
        Breakage('a rollback commits', 'stores/sqlite/transactions.py',
                 '                if c.raw.in_transaction:\n                    c.raw.execute(ROLLBACK)\n                c.row',
                 '                if c.raw.in_transaction:\n                    c.raw.execute(COMMIT)\n                c.row',
                 '--only shared'),
        Breakage('the block of a thread that ended is committed', 'stores/sqlite/connection.py', '    __del__ = close\n',
                 "    __del__ = lambda self: self.raw.in_transaction and (self.raw.execute('COMMIT'), self.close())\n",
                 '--only threads'),
        Breakage("a block is everybody's in an event loop", 'stores/sqlite/transactions.py',
                 '            if may_run() and c.owner is None:', '            if False:', '--only tasks'),
        Breakage('a block that ends around another one is committed', 'stores/sqlite/transactions.py',
                 'return place, partial(blocks.out_of_order, self.file.path)', 'return place, None', '--only tasks'),
        Breakage('a name is an URI', 'stores/sqlite/connection.py', "('%', '%25'), ", '', '--only paths'),
        Breakage('parts are numbered by any clock', 'collections/tree.py', 'min(max(int(time.time()), 1), 0xFFFFFFFE)',
                 'int(time.time())', '--only clock'),
        Breakage('a vault that was closed complains when it goes', 'stores/sqlite/connection.py',
                 "        raw = vars(self).pop('raw', None)\n        if raw is None:\n            return\n",
                 "        raw = vars(self).pop('raw')\n", '--only shutdown'),
    ],

    'fuzz': [
        Breakage('a key may nest without end', 'keys.py', 'KeyError, RecursionError, struct.error', 'KeyError, struct.error',
                 '--blind --target keys --rounds 5'),
        Breakage('infinity is a size', 'keys.py',
                 "        if take(at, 5) == INFINITY:\n            return float('-inf' if negative else 'inf'), at + 5\n",
                 '', '--blind --target keys --rounds 5'),
        Breakage('a fraction may be of text', 'codecs/types.py', '    if not type(numerator) is type(denominator) is int:',
                 '    if False:', '--blind --target values --rounds 5'),
        Breakage('an array may hold addresses', 'codecs/arrays.py', '    if dtype.hasobject:  # its', '    if False:  # its',
                 '--blind --target values --rounds 5'),
        Breakage('a list may be an endless range', 'codecs/types.py',
                 "        if type(items) is list:\n            return kind(items)\n        raise ValueError(f'an array",
                 "        return kind(items)\n        raise ValueError(f'an array", '--blind --target values --rounds 5'),
        Breakage('a pickle is loaded that is not allowed', 'codecs/pickles.py',
                 "        raise UntrustedPickleError('the value holds a pickle, which allow_pickle=False",
                 "        return __import__('pickle').loads(data)\n        raise UntrustedPickleError('the value holds a pickle, which allow_pickle=False",
                 '--blind --target jsonlines --rounds 5'),
        Breakage('a part may be met again, and again', 'collections/tree.py',
                 '    if number in seen:\n        raise misfit()', '    if False:\n        raise misfit()',
                 '--blind --target parts --rounds 5'),
        Breakage('a view or a trigger may be in the file', 'stores/sqlite/opening.py', '    if not KNOWN.issuperset(found):',
                 '    if False:', '--blind --target file --rounds 5'),
        Breakage('the newest id may be of any type', 'stores/sqlite/statements.py',
                 '        if newest is None or newest >= SIGN - 1:', '        if False:', '--blind --target file --rounds 5'),
    ],

    'versions': [
        Breakage('two codes have changed places', 'codecs/codes.py', 'DECIMAL = 13\nFRACTION = 14',
                 'DECIMAL = 14\nFRACTION = 13', '--offline'),
        Breakage('two tags of keys have changed places', 'keys.py', 'DATE = 0x05\nNAIVE = 0x06', 'DATE = 0x06\nNAIVE = 0x05',
                 '--offline'),
        Breakage('a block begins without the write lock', 'stores/sqlite/schema.py', "BEGIN = 'BEGIN IMMEDIATE'",
                 "BEGIN = 'BEGIN'", '--offline'),
        Breakage('deletions are not counted', 'stores/sqlite/schema.py',
                 'MARK_DELETED = """UPDATE entries SET crc = crc + NOT',
                 'MARK_DELETED = """UPDATE entries SET crc = crc + 0 * NOT', '--offline'),
        Breakage('a fold is not read', 'codecs/types.py', '.replace(fold=fold, tzinfo=rezone(zone))',
                 '.replace(tzinfo=rezone(zone))', '--offline'),
    ],

    'read_format': [
        Breakage('the checksum of a part is another one', 'stores/sqlite/schema.py',
                 'crc32(owner) ^ (number ^ number >> 32) & CRC)', 'crc32(owner) ^ (number + 1) & CRC)'),
        Breakage('the checksum of a number is another one', 'stores/sqlite/schema.py',
                 "int(key).to_bytes(8, 'big', signed=True), OF_INT", "int(key).to_bytes(8, 'little', signed=True), OF_INT"),
        Breakage('a range is stored otherwise', 'codecs/types.py', 'inner([obj.start, obj.stop, obj.step])',
                 'inner([obj.start, obj.step, obj.stop])'),
        Breakage('a datetime is a microsecond later in a key', 'keys.py', '(moment // MICROSECOND + SIGN)',
                 '(moment // MICROSECOND + SIGN + 1)'),
        Breakage('parts stay when their entry goes', 'stores/sqlite/schema.py',
                 'AFTER DELETE ON entries WHEN old.crc >= {HAS_PARTS}', 'AFTER DELETE ON entries WHEN old.crc >= {HAS_PARTS} * 2'),
        Breakage('a deep list is stored as a map', 'codecs/deep.py', 'self._header(count, 0x90, 0xDC)',
                 'self._header(count, 0x80, 0xDE)'),
    ],
}


def copied(folder: pathlib.Path) -> pathlib.Path:
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns('__pycache__'))
    return folder


def broken(path: pathlib.Path, text: str, instead: str) -> None:
    """Put the mistake into a file. Raises: ValueError when the text is not there once."""
    was = path.read_text('utf-8')
    if was.count(text) != 1:
        raise ValueError(f'{text!r} is {was.count(text)} times in {path.name}: the breakage needs another place')
    path.write_text(was.replace(text, instead), 'utf-8')


def tried(folder: pathlib.Path, trial: str, arguments: str) -> Tuple[str, float]:
    """Run a trial in a copy; return what became of it, and how many seconds it took."""
    began = time.monotonic()
    told = run([sys.executable, folder / 'trials' / f'{trial}.py', '--first', *arguments.split()], HANGS, cwd=folder,
               env={**os.environ, 'PYTHONPATH': str(folder)})
    if told.code == 0:
        became = 'left out' if 'left out' in told.out else 'passed'
    elif told.code == BROKEN and PROMISES in told.complaints:
        became = 'found'
    else:
        became = f'failed with {told.code}: {told.complaints.strip()[-200:]}'
    return became, time.monotonic() - began


def try_one(judge: Trial, trial: str, breakage: Breakage) -> None:
    """Try one breakage; print its line of the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = copied(pathlib.Path(name))
        try:
            broken(folder / 'vaults' / breakage.file, breakage.text, breakage.instead)
        except ValueError as error:
            judge.broke(f'{trial}, {breakage.what}: {error}')
            return
        became, took = tried(folder, trial, breakage.arguments)
    after = f'{took:.1f} s' if became == 'found' else became
    print(f'| {breakage.what} | `{" ".join([f"{trial}.py", *breakage.arguments.split()])}` | {after} |', flush=True)
    if became not in ('found', 'left out'):
        judge.broke(f'{trial}, {breakage.what}: {became}')


def try_sound(judge: Trial, trial: str, arguments: str) -> None:
    """Try the copy in which nothing is broken."""
    with tempfile.TemporaryDirectory() as folder:
        became, _ = tried(copied(pathlib.Path(folder)), trial, arguments)
    if became not in ('passed', 'left out'):
        judge.broke(f'{trial} {arguments}, without a breakage: {became}')


def main() -> None:
    judge = Trial(__doc__, rounds=4)
    judge.parser.add_argument('--only', choices=sorted(BREAKAGES), metavar='TRIAL', help=f'one of {", ".join(BREAKAGES)}')
    options = judge.begin()
    chosen = [(trial, one) for trial, many in BREAKAGES.items() for one in many if options.only in (None, trial)]
    if options.rounds:
        drawn = random.Random(options.seed).sample(chosen, min(options.rounds, len(chosen)))
        chosen = [one for one in chosen if one in drawn]
    print('| breakage | found by | after |\n|---|---|---:|')
    for trial, breakage in chosen:
        try_one(judge, trial, breakage)
    for trial, arguments in sorted({(trial, one.arguments) for trial, one in chosen}) if not options.rounds else ():
        try_sound(judge, trial, arguments)
    judge.end(f'{len(chosen)} breakages tried')


if __name__ == '__main__':
    main()
