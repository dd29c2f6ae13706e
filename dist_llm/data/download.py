"""Downloads of named corpora: streamed, checked against a known SHA-256, and whole or not there at all."""

import hashlib
import http.client
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from dist_llm.atomic import make_folder, remove_litter, whole_file
from dist_llm.errors import UserError

CHUNK_BYTES = 1 << 20
TIMEOUT_S = 30.0
WAY_OUT = "get the text another way and name it with --data.path FILE, or choose another --data.corpus"


@dataclass(frozen=True)
class Remote:
    """A file of known content on the network.

    Attributes
    ----------
    url : str
    n_bytes : int
    sha256 : str
        Hexadecimal digest of the content.
    description, licence : str
    member : str
        The file to read, if it is a zip archive.
    heading : str
        Regular expression of the lines with which documents begin; unless told, `SEPARATOR` lines divide them.
    """

    url: str
    n_bytes: int
    sha256: str
    description: str
    licence: str
    member: str = ""
    heading: str = ""

    @property
    def about(self) -> str:
        """What to know before it is downloaded."""
        return f"{self.n_bytes / 1e6:,.1f} MB, sha256 {self.sha256}, licence: {self.licence}"


TINY_STORIES = "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main"
# The original place of WikiText is gone; these are the same archives, byte for byte.
WIKITEXT_2 = "https://huggingface.co/datasets/ggml-org/ci/resolve/927b3642933080f1b0e811e2f916e14c292992f9"
WIKITEXT_103 = (
    "https://huggingface.co/datasets/mattdangerw/wikitext-103-raw/resolve/3555105b17ae31cc619a136fac72dbe2865c3738"
)
WIKITEXT_HEADING = "^ = [^=\n]+ = $"  # those of sections have more of the signs

REMOTES = {
    "tinyshakespeare": Remote(
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        1_115_394,
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        "Tiny Shakespeare: 40,000 lines of the plays (Karpathy 2015)",
        "public domain",
    ),
    "tinystories": Remote(
        f"{TINY_STORIES}/TinyStoriesV2-GPT4-train.txt",
        2_227_753_162,
        "6418d412de72888f52b5142c761ac21a582f7d1166f0bfbdb5f03ccfdec90443",
        "TinyStories V2: short stories in simple words, written by GPT-4 (Eldan and Li 2023)",
        "CDLA-Sharing-1.0",
    ),
    "tinystories-small": Remote(
        f"{TINY_STORIES}/TinyStoriesV2-GPT4-valid.txt",
        22_502_601,
        "6874bae9a4c1a4e7edcf0e53b86c17817e9cf881fc75ff2368da457b80c0585d",
        "the validation file of TinyStories V2, a hundredth of the whole (Eldan and Li 2023)",
        "CDLA-Sharing-1.0",
    ),
    "wikitext-2": Remote(
        f"{WIKITEXT_2}/wikitext-2-raw-v1.zip",
        4_721_645,
        "ef7edb566e3e2b2d31b29c1fdb0c89a4cc683597484c3dc2517919c615435a11",
        "WikiText-2, the raw training text: 600 good articles of Wikipedia (Merity et al. 2016)",
        "CC BY-SA 3.0",
        "wikitext-2-raw/wiki.train.raw",
        WIKITEXT_HEADING,
    ),
    "wikitext-103": Remote(
        f"{WIKITEXT_103}/wikitext-103-raw-v1.zip",
        191_984_949,
        "91c00ae287f0d699e18605c84afc9e45c192bc6b7797ff8837e5474655a33794",
        "WikiText-103, the raw training text: 28,475 good articles of Wikipedia (Merity et al. 2016)",
        "CC BY-SA 3.0",
        "wikitext-103-raw/wiki.train.raw",
        WIKITEXT_HEADING,
    ),
    "enwik8": Remote(
        "https://mattmahoney.net/dc/enwik8.zip",
        36_445_475,
        "547994d9980ebed1288380d652999f38a14fe291a6247c157c3d33d4932534bc",
        "enwik8: the first 100 MB of Wikipedia in 2006, as XML (Mahoney 2006)",
        "GFDL 1.2",
        "enwik8",
    ),
}


def download(url: str, path: Path, sha256: str, size: int, progress: bool = False) -> None:
    """Fetch a file of known content.

    Parameters
    ----------
    url : str
        Address of the file.
    path : Path
        Path it is written to; its folder is made.
    sha256 : str
        Hexadecimal digest of its content.
    size : int
        Its length in bytes.
    progress : bool
        Show a bar on stderr.

    Raises
    ------
    UserError
        No connection, an HTTP error, other content than expected, or no room on the disk.
    """
    try:
        make_folder(path.parent)
        remove_litter(path.parent)
        with whole_file(path) as partial:
            received, digest = _stream(url, partial, size, progress)
            if received < size:
                raise UserError(
                    f"the download of {url} broke off after {received:,} of {size:,} bytes: try again, or {WAY_OUT}"
                )
            if digest != sha256:
                raise UserError(
                    f"{url} is not the expected file (sha256 {digest[:12]}..., not {sha256[:12]}...): {WAY_OUT}"
                )
    except urllib.error.HTTPError as error:
        error.close()
        raise UserError(f"cannot download {url} (HTTP {error.code} {error.reason}): {WAY_OUT}") from error
    except (
        urllib.error.URLError,
        http.client.HTTPException,
        ConnectionError,
        TimeoutError,
        ssl.SSLError,
    ) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(f"cannot download {url} ({reason}): {WAY_OUT}") from error
    except OSError as error:  # what is left is the disk's: the network's errors were caught above
        raise UserError(
            f"cannot write the download of {url} to {path.parent} ({error.strerror}): "
            "choose another folder with --data.cache_dir FOLDER, or name a text with --data.path FILE"
        ) from error


def _stream(url: str, path: Path, size: int, progress: bool) -> tuple[int, str]:
    digest = hashlib.sha256()
    received = 0
    with (
        urllib.request.urlopen(url, timeout=TIMEOUT_S) as response,
        open(path, "wb") as file,
        tqdm(total=size, desc=url.rpartition("/")[2], unit="B", unit_scale=True, disable=not progress) as bar,
    ):
        # One byte more than expected is enough to know that it is another file, however long that one is.
        while received <= size and (chunk := response.read(min(CHUNK_BYTES, size + 1 - received))):
            file.write(chunk)
            digest.update(chunk)
            received += len(chunk)
            bar.update(len(chunk))
    return received, digest.hexdigest()
