"""The threads of a vault that tasks of asyncio and trio use, and who waits for them."""
from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import threading
import time
import weakref

import pytest

import vaults
from vaults.aio.workers import Workers

from .helpers import in_child, needs_fork, output


class AsyncioTasks:
    """What a test asks of asyncio: it is asked of trio by the same words."""

    name = 'asyncio'
    run = staticmethod(asyncio.run)
    sleep = staticmethod(asyncio.sleep)
    Event = asyncio.Event
    cancelled = asyncio.CancelledError

    def __init__(self):
        self.tasks = []

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        for task in self.tasks:
            await task.wait()

    def start(self, function, *args):
        task = AsyncioTask(function(*args))
        self.tasks.append(task)
        return task


class AsyncioTask:
    def __init__(self, coroutine):
        self.task = asyncio.ensure_future(coroutine)
        self.cancel = self.task.cancel

    async def wait(self):
        await asyncio.wait([self.task])

    async def result(self):
        await self.wait()
        return self.task.result()


class TrioTasks:
    name = 'trio'

    def __init__(self):
        self.trio = pytest.importorskip('trio')
        self.sleep, self.Event, self.cancelled = self.trio.sleep, self.trio.Event, self.trio.Cancelled

    def run(self, coroutine):
        async def main():
            return await coroutine
        return self.trio.run(main)

    async def __aenter__(self):
        self.manager = self.trio.open_nursery()
        self.nursery = await self.manager.__aenter__()
        return self

    async def __aexit__(self, *error):
        return await self.manager.__aexit__(*error)

    def start(self, function, *args):
        task = TrioTask(self.trio, function, args)
        self.nursery.start_soon(task.work)
        return task


class TrioTask:
    def __init__(self, trio, function, args):
        self.trio, self.function, self.args = trio, function, args
        self.scope, self.ended = trio.CancelScope(), trio.Event()
        self.cancel, self.wait = self.scope.cancel, self.ended.wait

    async def work(self):
        try:
            with self.scope:
                try:
                    self.value, self.error = await self.function(*self.args), None
                except BaseException as error:
                    self.error = error
                    if isinstance(error, self.trio.Cancelled):
                        raise
        finally:
            self.ended.set()

    async def result(self):
        await self.wait()
        if self.error is not None:
            raise self.error
        return self.value


@pytest.fixture(params=[AsyncioTasks, TrioTasks], ids=['asyncio', 'trio'])
def tasks(request):
    """The two kinds of event loops: `tasks.run(coroutine)`, `async with tasks: tasks.start(function, *args)`."""
    return request.param()


class Gate:
    """A function that a thread waits in, until it is let on."""

    def __init__(self):
        self.entered, self.opened = threading.Event(), threading.Event()

    def __call__(self, answer=None):
        self.entered.set()
        assert self.opened.wait(30)
        return answer


async def until(tasks, condition):
    """Wait for what another thread is to bring about."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        await tasks.sleep(0.001)


def threads_of(name):
    return [thread for thread in threading.enumerate() if thread.name.startswith(name)]


class TestWorkers:
    """Functions of tasks run in the threads of a vault, and blocks one after another."""

    @pytest.fixture
    def done(self):
        return []

    def test_what_a_function_returns_or_raises_the_task_gets(self, tasks):
        async def main():
            workers = Workers('one', 5.0)
            for ask in (workers.read, workers.write, workers.long):
                assert await ask(divmod, 7, 2) == (3, 1)
                with pytest.raises(ZeroDivisionError):
                    await ask(divmod, 7, 0)
                with pytest.raises(RuntimeError, match='StopIteration'):
                    await ask(next, iter(()))
                with pytest.raises(KeyboardInterrupt):
                    await ask(self.interrupt)
            names = [await ask(lambda: threading.current_thread().name) for ask in (workers.read, workers.write, workers.long)]
            assert names == ['one reader', 'one writer', 'one long']
            await workers.close()
        tasks.run(main())

    @staticmethod
    def interrupt():
        raise KeyboardInterrupt

    def test_functions_see_the_context_of_their_tasks(self, tasks):
        who = contextvars.ContextVar('who')

        async def ask(workers, name):
            who.set(name)
            await tasks.sleep(0)
            assert await workers.read(who.get) == name

        async def main():
            workers = Workers('one', 5.0)
            async with tasks:
                for name in range(20):
                    tasks.start(ask, workers, name)
            await workers.close()
        tasks.run(main())

    def test_a_call_that_was_not_begun_is_never_done_when_it_is_cancelled_and_a_begun_one_ends(self, tasks, done):
        async def main():
            workers, gate = Workers('one', 5.0), Gate()
            async with tasks:
                begun = tasks.start(workers.write, lambda: done.append(gate('begun')))
                await until(tasks, gate.entered.is_set)
                waiting = tasks.start(workers.write, done.append, 'waiting')
                await tasks.sleep(0)
                for task in (begun, waiting):
                    task.cancel()
                    await task.wait()
                gate.opened.set()
                await workers.write(done.append, 'after')
            await workers.close()
        tasks.run(main())
        assert done == ['begun', 'after']

    def test_calls_that_can_be_joined_are_done_together_up_to_the_first_that_cannot(self, tasks, done):
        def join(calls):
            done.append([call.args[0] for call in calls])
            for call in calls:
                call.run(wakes=False)
            calls[0].wake()

        async def ask(workers, number):
            return await workers.joined(join, len, 'x' * number)

        async def main():
            workers, gate = Workers('one', 5.0), Gate()
            async with tasks:
                held = tasks.start(workers.read, gate)
                await until(tasks, gate.entered.is_set)
                asked = []
                for number in range(4):
                    asked.append(tasks.start(ask, workers, number))
                    await tasks.sleep(0.001)
                alone = tasks.start(workers.read, len, 'alone')
                await tasks.sleep(0.001)
                last = [tasks.start(ask, workers, 7)]
                await tasks.sleep(0.001)
                asked[1].cancel()
                await asked[1].wait()
                gate.opened.set()
                await held.wait()
                assert [await one.result() for one in asked[:1] + asked[2:] + last] == [0, 2, 3, 7] and await alone.result() == 5
                closing = [tasks.start(ask, workers, number) for number in range(3)]
                await tasks.sleep(0.001)
                await workers.close()
                assert [await one.result() for one in closing] == [0, 1, 2]
        tasks.run(main())
        assert done[0] == ['', 'xx', 'xxx']

    def test_what_fails_for_joined_calls_is_told_to_each(self, tasks):
        def join(calls):
            calls[0].run(wakes=False)
            raise ZeroDivisionError(len(calls))

        async def ask(workers):
            return await workers.joined(join, len, 'abc')

        async def main():
            workers, gate = Workers('one', 5.0), Gate()
            async with tasks:
                held = tasks.start(workers.read, gate)
                await until(tasks, gate.entered.is_set)
                asked = [tasks.start(ask, workers) for _ in range(3)]
                await tasks.sleep(0.01)
                gate.opened.set()
                await held.wait()
                for one in asked:
                    await one.wait()
                told = []
                for one in asked:
                    try:
                        told.append(await one.result())
                    except ZeroDivisionError as error:
                        told.append(str(error))
                assert sorted(map(str, told)) == ['3', '3', '3'] and 3 in told
                assert await ask(workers) == 3
            await workers.close()
        tasks.run(main())

    def test_an_error_that_nobody_waits_for_is_told_to_nobody(self, tasks):
        async def main():
            workers, gate = Workers('one', 5.0), Gate()
            async with tasks:
                begun = tasks.start(workers.write, lambda: divmod(gate(1), 0))
                await until(tasks, gate.entered.is_set)
                begun.cancel()
                await begun.wait()
                gate.opened.set()
                assert await workers.write(len, 'abc') == 3
            await workers.close()
        tasks.run(main())
        gc.collect()

    def test_a_block_has_the_writer_for_itself_and_the_others_come_in_their_order(self, tasks, done):
        async def write(workers, name):
            await workers.write(done.append, name)

        async def main():
            workers = Workers('one', 5.0)
            block = workers.block(lambda: done.append('undone'))
            assert await block.begin(lambda: done.append('begin') or 5) == 5
            async with tasks:
                for name in 'abc':
                    tasks.start(write, workers, name)
                    await tasks.sleep(0)
                assert await workers.read(len, 'read') == 4
                assert await block.run(divmod, 7, 2) == (3, 1)
                assert done == ['begin']
                assert await block.end(lambda: done.append('end') or 6) == 6
            for use in (block.run, block.end):
                with pytest.raises(vaults.VaultError, match='has ended'):
                    await use(len)
            block.drop()
            await workers.close()
        tasks.run(main())
        assert done == ['begin', 'end', 'a', 'b', 'c']

    def test_a_block_that_is_dropped_is_undone_and_gives_its_turn_back(self, tasks, done):
        async def main():
            workers = Workers('one', 5.0)
            block = workers.block(lambda: done.append('undone'))
            await block.begin(lambda: done.append('begin'))
            block.drop()
            block.drop()
            await workers.write(done.append, 'after')
            await workers.close()
        tasks.run(main())
        assert done == ['begin', 'undone', 'after']

    def test_a_block_whose_begin_or_end_fails_gives_its_turn_back(self, tasks, done):
        async def main():
            workers = Workers('one', 5.0)
            block = workers.block(lambda: done.append('undone'))
            with pytest.raises(ZeroDivisionError):
                await block.begin(lambda: 1 / 0)
            await workers.write(done.append, 'between')
            block = workers.block(lambda: done.append('undone'))
            await block.begin(lambda: done.append('begin'))
            with pytest.raises(ZeroDivisionError):
                await block.end(lambda: 1 / 0)
            await workers.write(done.append, 'after')
            await workers.close()
        tasks.run(main())
        assert done == ['between', 'begin', 'after']

    def test_who_waits_for_one_block_all_of_the_timeout_is_told_how_to_do_without(self, tasks, done):
        async def main():
            workers = Workers('one', 0.05)
            block = workers.block(lambda: None)
            await block.begin(lambda: None)
            for ask in (workers.write, workers.block(lambda: None).begin):
                with pytest.raises(vaults.VaultBusyError, match=r'0\.05 seconds.*handle'):
                    await ask(lambda: done.append('never'))
            await block.run(done.append, 'within')
            await block.end(lambda: None)
            await workers.write(done.append, 'after')
            await workers.close()
        tasks.run(main())
        assert done == ['within', 'after']

    def test_what_nobody_waits_for_is_done_after_a_block_that_lasted_too_long_for_others(self, tasks, done):
        async def main():
            workers = Workers('impatient', 0.05)
            try:
                block = workers.block(lambda: done.append('undone'))
                await block.begin(lambda: done.append('begun'))
                workers.tell(lambda: done.append('told'))
                with pytest.raises(vaults.VaultBusyError):
                    await workers.write(done.append, 'refused')
                await block.end(lambda: done.append('ended'))
                await workers.write(done.append, 'last')
            finally:
                await workers.close()
        tasks.run(main())
        assert done == ['begun', 'ended', 'told', 'last']

    def test_a_queue_that_moves_is_waited_in_for_longer_than_the_timeout(self, tasks, done):
        async def count(workers):
            block = workers.block(lambda: None)
            await block.begin(lambda: None)
            await block.run(time.sleep, 0.01)
            await block.end(lambda: done.append(1))

        async def main():
            workers = Workers('one', 0.25)
            async with tasks:
                for _ in range(50):
                    tasks.start(count, workers)
            await workers.close()
        tasks.run(main())
        assert len(done) == 50

    @pytest.mark.parametrize('steps', range(8))
    def test_cancelled_after_any_step_no_turn_stays_taken(self, tasks, done, steps):
        async def hold(workers):
            for _ in range(3):
                block = workers.block(lambda: done.append('end'))
                try:
                    await block.begin(lambda: done.append('begin'))
                    await block.run(len, 'abc')
                    await tasks.sleep(0)
                    await block.end(lambda: done.append('end'))
                except BaseException:
                    block.drop()
                    raise

        async def main():
            workers = Workers('one', 30.0)
            async with tasks:
                held = [tasks.start(hold, workers) for _ in range(3)]
                for one in held:
                    for _ in range(steps):
                        await tasks.sleep(0)
                    one.cancel()
            await workers.write(done.append, 'after')
            await workers.close()
        tasks.run(main())
        assert done == ['begin', 'end'] * (len(done) // 2) + ['after']

    def test_a_vault_is_opened_before_the_first_call_and_tried_again_until_it_can_be(self, tasks, done):
        def opened():
            done.append('open')
            if len(done) < 3:
                raise vaults.VaultNotFoundError('not there yet')

        async def main():
            workers = Workers('one', 5.0, opened=opened, closed=lambda: done.append('close'))
            for ask in (workers.read, workers.write):
                with pytest.raises(vaults.VaultNotFoundError):
                    await ask(done.append, 'never')
            await workers.read(done.append, 'read')
            await workers.write(done.append, 'write')
            await workers.close()
            await workers.close()
            for ask in (workers.read, workers.write, workers.long):
                with pytest.raises(vaults.VaultClosedError, match="'one'"):
                    await ask(done.append, 'never')
        tasks.run(main())
        assert done == ['open'] * 3 + ['read', 'write', 'close']

    def test_what_was_never_used_has_no_thread_and_closes_nothing(self, tasks, done):
        async def main():
            workers = Workers('unused', 5.0, opened=lambda: done.append('open'), closed=lambda: done.append('close'))
            assert not threads_of('unused')
            await workers.close()
        tasks.run(main())
        assert not done

    def test_closing_waits_for_what_was_asked_for_and_goes_on_when_it_is_cancelled(self, tasks, done):
        async def main():
            workers, gate = Workers('closing', 5.0, closed=lambda: done.append('close')), Gate()
            async with tasks:
                tasks.start(workers.long, lambda: done.append(gate('long')))
                await until(tasks, gate.entered.is_set)
                tasks.start(workers.write, done.append, 'write')
                await tasks.sleep(0)
                closing = tasks.start(workers.close)
                for _ in range(2):  # trio runs those that are ready in any order
                    await tasks.sleep(0)
                with pytest.raises(vaults.VaultClosedError):
                    await workers.write(done.append, 'never')
                closing.cancel()
                gate.opened.set()
            await until(tasks, lambda: not threads_of('closing'))
        tasks.run(main())
        assert sorted(done[:2]) == ['long', 'write'] and done[2:] == ['close']

    def test_closing_that_fails_leaves_all_as_it_was(self, tasks, done):
        def closed():
            done.append('close')
            if done == ['close']:
                raise vaults.SerializationError('what was kept back cannot be written')

        async def main():
            workers = Workers('failing', 0.05, closed=closed)
            await workers.read(len, 'abc')
            with pytest.raises(vaults.SerializationError):
                await workers.close()
            block = workers.block(lambda: None)
            await block.begin(lambda: None)
            assert await workers.read(len, 'abc') == 3
            with pytest.raises(vaults.VaultBusyError):
                await workers.close()
            await block.end(lambda: None)
            assert await workers.write(len, 'abc') == await workers.read(len, 'abc') == 3
            await workers.close()
            await until(tasks, lambda: not threads_of('failing'))
        tasks.run(main())
        assert done == ['close', 'close']

    def test_after_a_close_that_was_refused_calls_are_done_in_their_order_and_none_is_forgotten(self, tasks, done):
        def join(calls):
            for call in calls:
                call.run()

        async def ask(workers, number):
            return await workers.joined(join, done.append, number)

        async def main():
            workers, gate = Workers('refused', 0.05), Gate()
            block = workers.block(lambda: None)
            await block.begin(lambda: None)
            async with tasks:
                held = tasks.start(workers.read, gate)
                await until(tasks, gate.entered.is_set)
                asked = []
                for number in range(6):
                    asked.append(tasks.start(ask, workers, number))
                    await tasks.sleep(0.001)
                    if number in (1, 3):
                        with pytest.raises(vaults.VaultBusyError):
                            await workers.close()
                gate.opened.set()
                await until(tasks, lambda: len(done) == 6)
                await held.wait()
                await block.end(lambda: None)
                assert await workers.read(len, 'abc') == 3
                await workers.close()
            await until(tasks, lambda: not threads_of('refused'))
        tasks.run(main())
        assert done == [*range(6)]

    def test_a_close_that_was_cancelled_waits_for_the_block_of_another(self, tasks, done):
        async def main():
            workers = Workers('patient', 0.02, closed=lambda: done.append('close'))
            block = workers.block(lambda: None)
            await block.begin(lambda: None)
            async with tasks:
                closing = tasks.start(workers.close)
                await tasks.sleep(0.005)
                closing.cancel()
                await closing.wait()
                await tasks.sleep(0.1)
                await block.end(lambda: done.append('block'))
                if tasks.name == 'trio':  # where it is not cancelled before it has ended: it was refused
                    await workers.close()
                await until(tasks, lambda: not threads_of('patient'))
        tasks.run(main())
        assert done == ['block', 'close']

    def test_another_loop_is_told_that_it_is_another_and_may_close(self, tasks, done):
        workers = Workers('two loops', 5.0, closed=lambda: done.append('close'))

        async def use():
            await workers.write(done.append, 'first')

        async def again():
            for ask in (workers.read, workers.write, workers.block(lambda: None).begin):
                with pytest.raises(vaults.VaultTaskError, match='another event loop'):
                    await ask(lambda: done.append('never'))
            await workers.close()
        tasks.run(use())
        tasks.run(again())
        assert done == ['first', 'close']

    def test_without_a_loop_it_says_so_and_starts_no_thread(self):
        workers = Workers('no loop', 5.0)
        with pytest.raises(vaults.VaultTaskError, match='no event loop'):
            workers.read(len, 'abc').send(None)
        assert not threads_of('no loop')

    def test_a_loop_that_is_closed_while_calls_are_under_way_disturbs_no_thread(self, done):
        gate, loop = Gate(), asyncio.new_event_loop()
        workers = Workers('closed loop', 5.0)
        reading, writing = (loop.create_task(ask(lambda: done.append(gate()))) for ask in (workers.read, workers.write))
        loop.run_until_complete(asyncio.sleep(0))
        assert gate.entered.wait(30)
        for task in (reading, writing):
            task._log_destroy_pending = False
        loop.close()
        gate.opened.set()
        asyncio.run(workers.close())
        assert done == [None, None]

    def test_threads_end_when_it_is_collected_even_in_a_block(self, tasks, done):
        async def main():
            workers = Workers('collected', 5.0)
            await workers.read(len, 'abc')
            block = workers.block(lambda: done.append('undone'))
            await block.begin(lambda: done.append('begin'))
            await block.run(done.append, 'run')
            gone = weakref.ref(workers)
            del workers
            gc.collect()
            await until(tasks, lambda: not gone() and not threads_of('collected'))
        tasks.run(main())
        assert done == ['begin', 'run', 'undone']

    def test_a_thread_holds_nothing_of_the_calls_that_are_done(self, tasks):
        class Thing:
            def fail(self):
                raise ZeroDivisionError

        async def main():
            workers, thing = Workers('one', 5.0), Thing()
            gone = weakref.ref(thing)
            await workers.write(id, thing)
            with pytest.raises(ZeroDivisionError):
                await workers.write(thing.fail)
            await workers.write(len, 'abc')
            del thing
            await until(tasks, lambda: gone() is None)
            await workers.close()
        gc.disable()
        try:
            tasks.run(main())
        finally:
            gc.enable()

    def test_a_process_ends_while_its_threads_wait(self):
        assert output('''
            import asyncio
            from vaults.aio.workers import Workers
            workers = Workers('left', 5.0)

            async def main():
                await workers.read(len, 'abc')
                block = workers.block(lambda: None)
                await block.begin(lambda: None)
                print('begun')
            asyncio.run(main())''') == 'begun'

    @needs_fork
    def test_a_forked_child_has_threads_of_its_own(self, tasks, done):
        workers = Workers('forked', 5.0, opened=lambda: done.append('open'), closed=lambda: done.append('close'))

        async def use():
            await workers.write(done.append, os.getpid())

        async def use_and_close():
            await use()
            await workers.close()
            return done

        def in_the_child():
            return tasks.run(use_and_close()), os.getpid()
        tasks.run(use())
        answer, child = in_child(in_the_child).answer()
        assert answer == ['open', os.getpid(), child, 'close'] and done == ['open', os.getpid()]
        tasks.run(workers.close())
