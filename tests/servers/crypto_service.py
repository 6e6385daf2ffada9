"""A small HTTP service over a given libcrypto: what an application does that calls `EVP_Cipher` itself.

Run as a program: `python3 crypto_service.py LIBCRYPTO PORT`. It fetches its ciphers once at start, as servers
do. `GET /digest` works a little (the load); the other paths answer one line for a check. Standard library
only, and nothing of it that loads another libcrypto.
"""

from __future__ import annotations

import ctypes
import socketserver
import sys

KEY = bytes(range(32))
NONCE = bytes(12)
TAG_BYTES = 16
CTRL_GET_TAG = 0x10
CTRL_SET_TAG = 0x11
REQUEST_BYTES_MAX = 8192


class Crypto:
    """The calls that the service makes, each on a context of its own."""

    def __init__(self, path: str) -> None:
        self._lib = ctypes.CDLL(path)
        for name in ("EVP_CIPHER_CTX_new", "EVP_CIPHER_fetch", "EVP_MD_fetch"):
            getattr(self._lib, name).restype = ctypes.c_void_p
        self._cipher = ctypes.c_void_p(self._lib.EVP_CIPHER_fetch(None, b"ChaCha20-Poly1305", None))
        self._digest = ctypes.c_void_p(self._lib.EVP_MD_fetch(None, b"SHA256", None))

    def digest(self, data: bytes) -> bytes:
        """Return the SHA-256 of `data`."""
        out = ctypes.create_string_buffer(32)
        size = ctypes.c_uint(0)
        done = self._lib.EVP_Digest(data, ctypes.c_size_t(len(data)), out, ctypes.byref(size), self._digest, None)
        return out.raw if done == 1 else b""

    def seal(self, text: bytes) -> tuple[bytes, bytes]:
        """Return (ciphertext, tag) of `text`."""
        out = ctypes.create_string_buffer(len(text) + TAG_BYTES)
        tag = ctypes.create_string_buffer(TAG_BYTES)
        size = ctypes.c_int(0)
        context = self._context(encrypt=1)
        if text:
            self._lib.EVP_CipherUpdate(context, out, ctypes.byref(size), text, len(text))
        self._lib.EVP_CipherFinal_ex(context, out, ctypes.byref(ctypes.c_int(0)))
        self._lib.EVP_CIPHER_CTX_ctrl(context, CTRL_GET_TAG, TAG_BYTES, tag)
        self._lib.EVP_CIPHER_CTX_free(context)
        return out.raw[: size.value], tag.raw

    def open_empty(self, tag: bytes) -> bool:
        """Return whether `EVP_Cipher` accepts `tag` for a message without content."""
        out = ctypes.create_string_buffer(TAG_BYTES)
        context = self._context(encrypt=0)
        self._lib.EVP_CIPHER_CTX_ctrl(context, CTRL_SET_TAG, TAG_BYTES, tag)
        accepted = self._lib.EVP_Cipher(context, out, None, 0) >= 0
        self._lib.EVP_CIPHER_CTX_free(context)
        return bool(accepted)

    def open_in_parts(self, text: bytes, tag: bytes) -> bool:
        """Return whether `text` opens when an update of no bytes comes before it."""
        out = ctypes.create_string_buffer(len(text) + TAG_BYTES)
        size = ctypes.c_int(0)
        context = self._context(encrypt=0)
        self._lib.EVP_CIPHER_CTX_ctrl(context, CTRL_SET_TAG, TAG_BYTES, tag)
        opened = self._lib.EVP_CipherUpdate(context, out, ctypes.byref(size), text, 0) == 1
        opened = opened and self._lib.EVP_CipherUpdate(context, out, ctypes.byref(size), text, len(text)) == 1
        opened = opened and self._lib.EVP_CipherFinal_ex(context, out, ctypes.byref(ctypes.c_int(0))) == 1
        self._lib.EVP_CIPHER_CTX_free(context)
        return bool(opened)

    def _context(self, *, encrypt: int) -> ctypes.c_void_p:
        context = ctypes.c_void_p(self._lib.EVP_CIPHER_CTX_new())
        self._lib.EVP_CipherInit_ex(context, self._cipher, None, KEY, NONCE, encrypt)
        return context

    def answer(self, path: str) -> str:
        """Return the line for a request path."""
        if path == "/forged":
            return "accepted" if self.open_empty(bytes(TAG_BYTES)) else "rejected"
        if path == "/genuine":
            return "accepted" if self.open_empty(self.seal(b"")[1]) else "rejected"
        if path == "/parts":
            return "opened" if self.open_in_parts(*self.seal(b"content")) else "refused"
        return self.digest(path.encode() * 100).hex()


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        """Answer requests until the client closes."""
        while (line := self.rfile.readline(REQUEST_BYTES_MAX)) not in (b"", b"\r\n"):
            close = False
            while (header := self.rfile.readline(REQUEST_BYTES_MAX)) not in (b"", b"\r\n"):
                close = close or header.lower().startswith(b"connection: close")
            body = SERVICE.answer(line.split(b" ")[1].decode("latin-1")).encode()
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            if close:
                return


class _Service(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    SERVICE = Crypto(sys.argv[1])
    _Service(("127.0.0.1", int(sys.argv[2])), _Handler).serve_forever()
