"""Writing a model in each of the forms that there are."""

from pathlib import Path

from dist_llm.atomic import whole_folder
from dist_llm.errors import UserError
from dist_llm.interop import gguf, huggingface
from dist_llm.interop.llama2c import write_llama2c
from dist_llm.model.llama import Llama
from dist_llm.text import Tokenizer

DTYPES = {"huggingface": huggingface.DTYPES, "gguf": tuple(gguf.DTYPES), "llama2c": ("float32",)}


def export(folder: Path, model: Llama, tokenizer: Tokenizer, form: str, dtype: str) -> list[Path]:
    """Write a model to a folder, and return the paths of its files.

    Parameters
    ----------
    form : str
        One of DTYPES.
    dtype : str
        One of ``DTYPES[form]``.

    Raises
    ------
    UserError
        The folder is not empty or cannot be written, or the form cannot hold the model.
    """
    try:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        if folder.exists():
            raise UserError(f"{folder} exists already: choose another --out")
        with whole_folder(folder) as temporary:
            if form == "huggingface":
                huggingface.write(temporary, model, tokenizer, dtype)
            elif form == "gguf":
                gguf.write_gguf(temporary / "model.gguf", model, tokenizer, dtype)
            else:
                write_llama2c(temporary, model, tokenizer)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}") from error
    return sorted(folder.iterdir())
