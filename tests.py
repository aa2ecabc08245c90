"""The specification of vaults, which spec/ has by parts of the house. Run with `pytest tests.py`."""
import os
import shutil
import tempfile

import pytest

# In memory, where there is room: on a disk, tests with files wait for it half of their time, and prove nothing of it.
if 'TMPDIR' not in os.environ and os.access('/dev/shm', os.W_OK) and shutil.disk_usage('/dev/shm').free > 4 << 30:
    os.environ['TMPDIR'] = tempfile.tempdir = '/dev/shm'

pytest.register_assert_rewrite('spec')

# In the order in which they are read and run.
from spec.helpers import *
from spec.servers import *
from spec.serving import *
from spec.internals import *
from spec.samples import *
from spec.machines import *
from spec.journal import *
from spec.keys import *
from spec.values import *
from spec.values_named import *
from spec.values_arrays import *
from spec.values_large import *
from spec.trust import *
from spec.serializers import *
from spec.dictionary import *
from spec.dictionary_walks import *
from spec.places import *
from spec.urls import *
from spec.transactions import *
from spec.blocks import *
from spec.batches import *
from spec.stubs import *
from spec.tasks import *
from spec.aio import *
from spec.aio_vault import *
from spec.aio_random import *
from spec.processes import *
from spec.errors import *
from spec.stores import *
from spec.engines import *
from spec.ftp import *
from spec.jsonfile import *
from spec.jsonfile_remote import *
from spec.sqlite import *
from spec.drivers import *
from spec.postgresql import *
from spec.remote import *
from spec.remote_failures import *
from spec.postgresql_failures import *
from spec.files import *
from spec.failures import *
from spec.upkeep import *
from spec.recovery import *
from spec.writeback import *
from spec.writeback_others import *
from spec.writeback_walks import *
from spec.read_cache import *
from spec.chunks import *
from spec.lists import *
from spec.columns import *
from spec.deques import *
from spec.collections import *
from spec.sections import *
from spec.sections_sizes import *
from spec.validation import *
from spec.streams import *
from spec.streams_kept import *
from spec.streams_files import *
from spec.server import *
from spec.server_threats import *
from spec.shelf import *
from spec.peers import *
from spec.moving import *
from spec.moving_odd import *
from spec.moving_copy import *
from spec.as_json import *
from spec.as_json_chunks import *
from spec.programs import *
from spec.command import *
from spec.command_values import *
from spec.command_terminal import *
from spec.annotations import *
from spec.deploying import *
from spec.recipes import *
from spec.architecture import *
from spec.documents import *
