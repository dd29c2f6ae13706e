import pytest

from dist_llm.config import DataConfig
from tests.data.stories import STORIES


@pytest.fixture
def config(tmp_path) -> DataConfig:
    text = "<|endoftext|>\n".join(STORIES)
    (tmp_path / "stories.txt").write_text(text)
    return DataConfig(path=str(tmp_path / "stories.txt"), cache_dir=str(tmp_path / "cache"), vocab_size=300)
