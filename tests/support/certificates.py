"""Certificates for a server with TLS, of an authority of the test's own, by the openssl program."""

import subprocess
from pathlib import Path

NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1"


class Authority:
    """Signs certificates for as many ``days`` as are said; files lie in ``folder``."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder, self.name = folder, name
        folder.mkdir(parents=True, exist_ok=True)
        self.certificate = folder / f"{name}.crt"
        self._key = folder / f"{name}.key"
        request = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        self._new_key = request
        _openssl(
            *("req", "-x509", *request, "-keyout", self._key, "-out", self.certificate),
            *("-days", "30", "-subj", f"/CN={name}"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),  # Python 3.13 asks for it
        )

    def issue(self, name: str, *, names: str = NAMES, days: int = 30) -> tuple[Path, Path]:
        """Return the files of a certificate and its key; one for 0 days is over already."""
        certificate, key = (self.folder / f"{name}.{kind}" for kind in ("crt", "key"))
        wish, extension = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        extension.write_text(names)
        _openssl("req", *self._new_key, "-keyout", key, "-out", wish, "-subj", f"/CN={name}")
        _openssl(
            *("x509", "-req", "-in", wish, "-CA", self.certificate, "-CAkey", self._key),
            *("-CAcreateserial", "-out", certificate, "-days", str(days), "-extfile", extension),
        )
        return certificate, key


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
