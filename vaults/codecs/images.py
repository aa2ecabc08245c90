"""Images: those of Pillow as registered types, each its plain pixels. Knows neither keys nor stores."""
from __future__ import annotations

from .foreign import Foreign, encoder_among
from .registry import Provider

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict

    from .registry import Encoder

# Pixels of more than a byte are in the order of the machine unless Pillow is told otherwise; these are little-endian.
RAW_MODES = {'I': 'I;32S', 'F': 'F;32F'}


def _dump_image(image: Any) -> Dict[str, Any]:
    image.load()
    payload = {'mode': image.mode, 'size': list(image.size), 'info': image.info,
               'pixels': image.tobytes('raw', RAW_MODES.get(image.mode, image.mode))}
    if image.mode in ('P', 'PA'):
        seen = image.palette  # by programs; the one that colours the pixels may have a fourth byte besides
        mode = image.im.getpalettemode()
        raw = 'RGBX' if mode == 'RGB' else mode
        payload['palette'] = [raw, image.im.getpalette(mode, raw), seen.mode, bytes(seen.palette)]
    return payload


def _load_image(payload: Dict[str, Any]) -> Any:
    from PIL import Image, ImagePalette
    mode, (width, height), pixels = payload['mode'], payload['size'], payload['pixels']
    if width * height > 8 * len(pixels):  # before memory is taken for it
        raise ValueError(f'{len(pixels)} bytes are no image of {width} by {height}')
    image = Image.frombytes(mode, (width, height), pixels, 'raw', RAW_MODES.get(mode, mode))
    if 'palette' in payload:
        colouring_mode, colouring, seen_mode, seen = payload['palette']
        image.putpalette(colouring, colouring_mode)
        image.load()
        image.palette = ImagePalette.ImagePalette(seen_mode, seen)
    image.info = payload['info']  # last: load() looks into it
    return image


# Persisted name: never reuse it for another payload. Pinned by tests.py::TestForeign.
_IMAGE = Foreign('PIL.Image+raw', 'pillow', ['PIL.Image'], _dump_image, _load_image)


def _image_encoder(package: str, kind: type) -> Encoder:
    """Return the encoder of a class of Pillow, by the module that a program imports to have it."""
    return encoder_among({('PIL.Image', 'Image'): _IMAGE}, 'PIL.Image', kind)


IMAGES = Provider([_IMAGE], _image_encoder)
