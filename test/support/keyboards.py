"""A keyboard on a screen in memory, for LeRobot's own keyboard teleoperator to listen to."""

from __future__ import annotations

import shutil
import subprocess
from importlib.util import find_spec

import pytest

if find_spec("pynput") is not None:  # whose library it is
    import Xlib.display
    import Xlib.ext.xtest
    import Xlib.XK

needs_pynput = pytest.mark.skipif(
    find_spec("pynput") is None, reason="needs pynput: pip install 'lerobot[pynput-dep]'"
)
needs_screen = pytest.mark.skipif(
    shutil.which("Xvfb") is None, reason="needs Xvfb: apt install xvfb"
)


class Keyboard:
    """A screen in memory, and somebody at its keys; a context manager. ``variables``: what its
    session's programs have in their environment."""

    def __enter__(self):
        self._server = subprocess.Popen(
            ["Xvfb", "-displayfd", "1", "-nolisten", "tcp", "-screen", "0", "64x64x8"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        screen = f":{self._server.stdout.readline().strip()}"
        self.variables = {"DISPLAY": screen, "XDG_SESSION_TYPE": "x11"}
        self._display = Xlib.display.Display(screen)
        return self

    def __exit__(self, *_):
        self._display.close()
        self._server.terminate()
        self._server.wait(timeout=10)
        self._server.stdout.close()

    def press(self, *names, down=True):
        for name in names:
            code = self._display.keysym_to_keycode(Xlib.XK.string_to_keysym(name))
            kind = Xlib.X.KeyPress if down else Xlib.X.KeyRelease
            Xlib.ext.xtest.fake_input(self._display, kind, code)
        self._display.sync()

    def let_go(self, *names):
        self.press(*names, down=False)
