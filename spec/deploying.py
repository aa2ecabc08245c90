"""The page about deploying: its proxies stand before the real server, with the configurations of the page."""
from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shlex
import shutil
import signal
import ssl
import subprocess
import sys
import threading

import pytest

from vaults import Vault, VaultError

from .documents import blocks
from .helpers import HERE
from .programs import finished, spawn
from .servers import MissingServerError, PrivateProgram, wait_for
from .serving import Serving

ABOUT_DEPLOYING = HERE / 'docs' / 'deploying.md'
TOKEN_FOR_ALL, TOKEN_TO_READ = 'a-token-that-nobody-guesses', 'a-token-that-may-read'
HOST_OF_THE_PAGE = 'vaults.example.org'     # of the server, on the page
SAMPLE_KEYS = ['text', 'é/\0?&%', '', 1, -2.5, False, b'\0\xff', ('log', 2026, ('deep', None)), None, 'x' * 5000]


def block_of(language, beginning=''):
    """Return the block of the page in a language, that begins so."""
    found = [block for one, block in blocks(ABOUT_DEPLOYING.read_text('utf-8')) if one == language and block.startswith(beginning)]
    assert len(found) == 1
    return found[0]


class Proxy(PrivateProgram):
    """A proxy with the configuration of the page before a server: its port, and the file of a certificate of this machine."""

    def __init__(self, kind, server):
        self.program = program_of(kind)
        super().__init__(as_it_is=True)
        self.kind, self.key, self.certificate = kind, self.folder / 'key.pem', self.folder / 'certificate.pem'
        self.run('openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=localhost', '-days', 2, '-addext',
                 f'subjectAltName=DNS:localhost,DNS:{HOST_OF_THE_PAGE}', '-keyout', self.key, '-out', self.certificate)
        command = getattr(self, kind)(server.port)
        self.guard_with('sh', '-c', 'kill -9 $(cat pid)')
        with open(self.folder / 'log', 'w') as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=str(self.folder),
                                            start_new_session=True, env={**os.environ, 'HOME': str(self.folder)})
        (self.folder / 'pid').write_text(str(self.process.pid))
        try:
            wait_for(self.is_there)
        except BaseException:
            self.stop()
            raise

    def nginx(self, port):
        """Write the configuration, and return the command: as the page has it, with ports, names and files of this machine."""
        text = block_of('nginx')
        text = text.replace('listen 443', f'listen 127.0.0.1:{self.port}').replace('127.0.0.1:8642', f'127.0.0.1:{port}')
        text = text.replace(f'server_name {HOST_OF_THE_PAGE}', f'server_name localhost {HOST_OF_THE_PAGE}')
        text = re.sub(r'ssl_certificate .*;', f'ssl_certificate {self.certificate};', text)
        text = re.sub(r'ssl_certificate_key .*;', f'ssl_certificate_key {self.key};', text)
        kept = ''.join(f'{name}_temp_path {self.folder}/{name};\n' for name in ('client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'))
        (self.folder / 'nginx.conf').write_text(
            f'daemon off; master_process off; pid {self.folder}/nginx.pid; error_log stderr warn;\n'
            f'events {{}}\nhttp {{\naccess_log off;\n{kept}{text}}}\n')
        return [self.program, '-p', str(self.folder), '-e', 'stderr', '-c', str(self.folder / 'nginx.conf')]

    def caddy(self, port):
        text = block_of('text', HOST_OF_THE_PAGE).replace('127.0.0.1:8642', f'127.0.0.1:{port}')
        text = text.replace(f'{HOST_OF_THE_PAGE} {{', f'https://localhost:{self.port}, https://{HOST_OF_THE_PAGE}:{self.port} {{\n'
                                          f'    tls {self.certificate} {self.key}', 1)
        (self.folder / 'Caddyfile').write_text(f'{{\n    admin off\n    auto_https off\n    skip_install_trust\n    servers {{\n    }}\n}}\n{text}')
        return [self.program, 'run', '--config', str(self.folder / 'Caddyfile'), '--adapter', 'caddyfile']

    def is_there(self):
        if self.process.poll() is not None:
            raise RuntimeError((self.folder / 'log').read_text())
        return self.ask('GET', '/healthz').status == 200

    def stop(self):
        if self.began_in == os.getpid() and getattr(self, 'process', None) and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            (self.folder / 'pid').write_text('')
        super().stop()

    @property
    def root(self):
        return f'https://localhost:{self.port}'

    def connection(self):
        return http.client.HTTPSConnection('localhost', self.port, timeout=30, context=ssl.create_default_context(cafile=str(self.certificate)))

    def ask(self, method, path, body=None, token=TOKEN_FOR_ALL, **headers):
        """Return status, headers and body of an answer."""
        with contextlib.closing(self.connection()) as connection:
            return self.ask_by(connection, method, path, body, token, **headers)

    def ask_by(self, connection, method, path, body=None, token=TOKEN_FOR_ALL, **headers):
        headers = {'Authorization': f'Bearer {token}', **{name.replace('_', '-'): value for name, value in headers.items()}}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        answer.data = answer.read()
        return answer


def program_of(kind):
    """Return the path of a program. Raises: MissingServerError, when there is none on this machine."""
    found = shutil.which(kind, path=os.environ.get('PATH', '') + ':/usr/sbin')
    if not found:
        raise MissingServerError(f'there is no {kind} on this machine: apt-get install {kind}')
    return found


@pytest.fixture(scope='class', params=['nginx', 'caddy'])
def proxy(request):
    """A proxy before a server of its own, `proxy.server`."""
    with contextlib.ExitStack() as stack:
        try:
            program_of('openssl'), program_of(request.param)
            rights = {TOKEN_FOR_ALL: {'*': 'rw'}, TOKEN_TO_READ: {'*': 'r'}}
            server = stack.enter_context(Serving('--hostname', HOST_OF_THE_PAGE, '--proxy', '127.0.0.1', tokens=rights))
            found = stack.enter_context(Proxy(request.param, server))
        except MissingServerError as missing:
            pytest.skip(str(missing))
        found.server = server
        yield found


@pytest.fixture
def through_proxy(proxy, monkeypatch):
    """The address of a vault by the proxy, whose certificate is trusted."""
    monkeypatch.setenv('SSL_CERT_FILE', str(proxy.certificate))
    return f'{proxy.root}/{proxy.server.name()}'


class TestBehindAProxy:
    def test_a_vault_is_the_dict_that_it_is(self, through_proxy):
        with contextlib.closing(Vault(through_proxy, token=TOKEN_FOR_ALL)) as v:
            v.update((key, [number]) for number, key in enumerate(SAMPLE_KEYS))
            assert list(v) == SAMPLE_KEYS and all(v[key] == [number] for number, key in enumerate(SAMPLE_KEYS))
            with v:
                v['n'] = v.get('n', 0) + 1
            with pytest.raises(ZeroDivisionError), v:
                v['n'] = 2
                1 / 0
            v['large'] = os.urandom(3_000_000)
            with v.open('stream', 'wb') as file:
                file.write(bytes(range(256)) * 4000)
            with v.open('stream') as file:
                file.seek(1000)
                assert file.read(5) == bytes(range(232, 237))
            assert v['n'] == 1 and len(v['large']) == 3_000_000 and v.check() == []

    def test_a_token_is_asked_for_and_errors_come_as_they_are(self, proxy, through_proxy):
        with pytest.raises(VaultError, match='token'):
            Vault(through_proxy, token='wrong')
        Vault(through_proxy, token=TOKEN_FOR_ALL).close()
        with contextlib.closing(Vault(through_proxy, flag='r', token=TOKEN_TO_READ)) as reading, pytest.raises(VaultError):
            reading['a'] = 1
        assert proxy.ask('GET', '/v1/vaults', token='wrong').status == 401
        missing = proxy.ask('GET', '/v1/vaults/nowhere/entry?key=a')
        assert missing.status == 404 and json.loads(missing.data)['error'] == 'VaultNotFoundError'

    def test_a_stream_of_unknown_length_reaches_the_server_before_it_is_whole(self, proxy):
        path = f'/v1/vaults/{proxy.server.name()}'
        assert proxy.ask('PUT', path).status == 201
        before = proxy.server.metric('vaults_requests_running')

        def pieces():
            yield b'a' * 100_000
            wait_for(lambda: proxy.server.metric('vaults_requests_running') > before)
            yield b'b' * 100_000
        assert proxy.ask('PUT', f'{path}/stream?key=s', pieces(), Content_Type='application/octet-stream').status in (200, 201, 204)
        whole, part = proxy.ask('GET', f'{path}/stream?key=s'), proxy.ask('GET', f'{path}/stream?key=s', Range='bytes=99999-100000')
        assert whole.data == b'a' * 100_000 + b'b' * 100_000 and whole.headers['Accept-Ranges'] == 'bytes'
        assert (part.status, part.data, part.headers['Content-Range']) == (206, b'ab', 'bytes 99999-100000/200000')

    def test_tags_and_conditions_hold(self, proxy):
        path = f'/v1/vaults/{proxy.server.name()}'
        assert proxy.ask('PUT', path).status == 201
        made = proxy.ask('PUT', f'{path}/entry?key=a', '[1, 2, 3]', Content_Type='application/json', If_None_Match='*')
        again = proxy.ask('PUT', f'{path}/entry?key=a', '2', Content_Type='application/json', If_None_Match='*')
        read = proxy.ask('GET', f'{path}/entry?key=a')
        assert (made.status, again.status, json.loads(read.data)) == (201, 412, [1, 2, 3])
        assert read.headers['ETag'] and not read.headers['ETag'].startswith('W/')
        assert proxy.ask('GET', f'{path}/entry?key=a', If_None_Match=read.headers['ETag']).status == 304

    def test_a_connection_is_kept_and_long_keys_pass(self, proxy):
        path = f'/v1/vaults/{proxy.server.name()}'
        with contextlib.closing(proxy.connection()) as connection:
            assert proxy.ask_by(connection, 'PUT', path).status == 201
            kept = connection.sock
            for key in ('short', 'x' * 20_000):
                assert proxy.ask_by(connection, 'PUT', f'{path}/entry?key={key}', '1', Content_Type='application/json').status == 201
                assert proxy.ask_by(connection, 'GET', f'{path}/entry?key={key}').data == b'1'
            assert connection.sock is kept

    def test_it_is_known_by_its_name_and_who_asks_cannot_lie_about_that(self, proxy):
        for host, status in ((HOST_OF_THE_PAGE, 200), ('localhost', 200)):
            assert proxy.ask('GET', '/v1/vaults', Host=host, X_Forwarded_For='10.1.2.3').status == status
        assert {line['client'] for line in proxy.server.log if 'client' in line} == {'127.0.0.1'}

    def test_a_client_waits_while_the_server_is_restarted(self, proxy, through_proxy):
        with contextlib.closing(Vault(through_proxy, token=TOKEN_FOR_ALL, timeout=20)) as v:
            ended = threading.Event()

            def write():
                number = 0
                while not ended.is_set() or number < 20:
                    v[number] = number
                    number += 1
                done.append(number)
            done = []
            writer = threading.Thread(target=write)
            writer.start()
            try:
                for end in (proxy.server.end, proxy.server.kill):
                    end()
                    proxy.server.start()
            finally:
                ended.set()
                writer.join()
            assert v.items() == [(number, number) for number in range(done[0])]


class TestDeployingPage:
    def test_a_copy_is_made_beside_the_server_and_from_elsewhere(self, serving, tmp_path):
        name = serving.name()
        with contextlib.closing(Vault(serving.url_of(name))) as v:
            v['a'] = 1
            here = finished(spawn('--root', str(serving.root), 'backup', name, str(tmp_path / 'here.db')))
            there = finished(spawn('backup', serving.url_of(name), str(tmp_path / 'there.db')))
            assert (here.status, there.status) == (0, 0), (here, there)
        for copy in ('here', 'there'):
            with contextlib.closing(Vault(tmp_path / f'{copy}.db')) as v:
                assert v == {'a': 1}

    @pytest.mark.parametrize('language, begins', [('ini', 'ExecStart='), ('dockerfile', 'ENTRYPOINT ')])
    def test_the_server_understands_the_command_of_the_page(self, serving, language, begins):
        line = next(line[len(begins):] for line in block_of(language).splitlines() if line.startswith(begins))
        words = shlex.split(line) if language == 'ini' else json.loads(line)
        assert words[:4] == ['/opt/vaults/bin/vaults', 'serve', '--root', '/var/lib/vaults']
        with Serving(tokens={TOKEN_FOR_ALL: {'*': 'rw'}}) as own:
            own.end()
            of_the_page = dict(zip(words[2::2], words[3::2]))
            assert of_the_page.pop('--root') == '/var/lib/vaults' and of_the_page.pop('--tokens') == '/etc/vaults/tokens'
            of_the_page.update({'--host': '127.0.0.1'} if '--host' in of_the_page else {})
            own.words += [word for pair in of_the_page.items() for word in pair]
            own.start()
            assert own.ask('GET', '/healthz').status == 200

    def test_the_container_has_what_it_is_built_of_and_sees_a_file_of_tokens_that_is_replaced(self):
        lines = [shlex.split(line) for line in block_of('dockerfile').splitlines() if line.startswith('COPY ') and '--from' not in line]
        copied = [word for _, *sources, _ in lines for word in sources]
        about = (HERE / 'pyproject.toml').read_text()
        assert 'vaults' in copied and '.' not in copied and all((HERE / name).exists() for name in copied)
        assert set(re.findall(r'\b(?:README\.md|LICENSE)\b', about)) <= {*copied}
        (mounted,) = [re.findall(r'-v (\S+):(/etc/\S*?):ro', line) for line in ABOUT_DEPLOYING.read_text('utf-8').splitlines() if 'podman run' in line]
        assert [target for _, target in mounted] == ['/etc/vaults']    # the folder of --tokens, and no file

    def test_systemd_takes_the_unit(self, tmp_path):
        if not shutil.which('systemd-analyze'):
            pytest.skip('there is no systemd-analyze on this machine')
        unit = tmp_path / 'vaults.service'
        unit.write_text(block_of('ini').replace('/opt/vaults/bin/vaults', sys.executable))
        done = subprocess.run(['systemd-analyze', 'verify', '--man=no', str(unit)], capture_output=True, text=True, timeout=60)
        assert (done.returncode, [line for line in done.stderr.splitlines() if 'vaults.service' in line]) == (0, [])
