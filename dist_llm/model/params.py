"""All parameters in one flat buffer, all gradients in another, and named views on both.

The all-reduce, the clipping norm, the optimizer and the checkpoint work on the flat buffers; the layers work on the
views. Tensors are declared in forward order, so gradients become final from the tail of the buffer as the backward
pass proceeds.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from dist_llm.errors import UserError

# What a tensor is for: the table of token embeddings, a matrix inside a block, a norm's gain, the output projection.
ROLES = ("embedding", "hidden", "gain", "head")


class Param:
    """One named tensor: views of its values and of its gradient.

    Attributes
    ----------
    name : str
        Hugging Face's name of the tensor in a Llama.
    shape : tuple of int
    offset : int
        Offset of its first element in the flat buffers.
    role : str
        One of ROLES.
    init_std : float or None
        Standard deviation of its initial normal values; None: ones.
    continues : bool
        Whether its rows and those of the tensor before it are one matrix to an optimizer of matrices.
    data, grad : ndarray
        Views of `shape`. Write into them in place; rebinding them would cut them off from the flat buffer.
    """

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        offset: int,
        role: str,
        init_std: float | None,
        continues: bool = False,
    ) -> None:
        assert role in ROLES, role
        self.name = name
        self.shape = shape
        self.offset = offset
        self.role = role
        self.init_std = init_std
        self.continues = continues
        self.data: np.ndarray
        self.grad: np.ndarray

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape))

    @property
    def slice(self) -> slice:
        """Where the tensor lies in the flat buffers."""
        return slice(self.offset, self.offset + self.size)


class ParamStore:
    """Declares tensors, then allocates them all at once.

    Attributes
    ----------
    data, grad : ndarray of shape (P,)
        The flat buffers, there after `allocate`.
    """

    def __init__(self) -> None:
        self._params: dict[str, Param] = {}
        self._joined: list[Param] = []
        self.data: np.ndarray
        self.grad: np.ndarray

    def declare(
        self, name: str, shape: tuple[int, ...], role: str, init_std: float | None, continues: bool = False
    ) -> Param:
        """Add a tensor behind those declared so far."""
        assert name not in self._params, name
        param = Param(name, shape, self.size, role, init_std, continues)
        self._params[name] = param
        return param

    def join(self, params: Sequence[Param]) -> Param:
        """Return matrices that were declared one behind the other as one: their rows, in that order."""
        rows = sum(param.shape[0] for param in params)
        joined = Param("", (rows, *params[0].shape[1:]), params[0].offset, params[0].role, None)
        assert joined.slice.stop == params[-1].slice.stop, "they do not lie side by side"
        if hasattr(self, "data"):
            self._bind(joined)
        else:
            self._joined.append(joined)
        return joined

    def matrices(self) -> list[Param]:
        """Return all tensors, in their order, each joined with those that continue it."""
        groups: list[list[Param]] = []
        for param in self:
            if param.continues:
                groups[-1].append(param)
            else:
                groups.append([param])
        return [group[0] if len(group) == 1 else self.join(group) for group in groups]

    def allocate(self, dtype: np.typing.DTypeLike) -> None:
        """Allocate both buffers, zeroed, and bind every tensor's views."""
        self.data = np.zeros(self.size, dtype)
        self.grad = np.zeros(self.size, dtype)
        for param in (*self, *self._joined):
            self._bind(param)

    def _bind(self, param: Param) -> None:
        param.data = self.data[param.slice].reshape(param.shape)
        param.grad = self.grad[param.slice].reshape(param.shape)

    def initialize(self, rng: np.random.Generator) -> None:
        """Fill the values: normal with each tensor's `init_std`, or ones (the gains of the norms)."""
        for param in self:
            if param.init_std is None:
                param.data[...] = 1
            else:
                param.data[...] = rng.standard_normal(param.shape) * param.init_std

    def state_dict(self, data: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Return the values of all tensors by name, as views: of `data`, or of a buffer (P,) that is laid out alike."""
        data = self.data if data is None else data
        return {param.name: data[param.slice].reshape(param.shape) for param in self}

    def load_state_dict(
        self,
        state: Mapping[str, np.ndarray],
        arranged: Callable[[str, np.ndarray], np.ndarray] = lambda name, array: array,
    ) -> None:
        """Copy the values of all tensors.

        Parameters
        ----------
        state : mapping
            Tensors by name; it may read each from a file when it is asked for.
        arranged : callable, optional
            Takes a tensor's name and values and returns them in the order of memory.

        Raises
        ------
        UserError
            The tensors are those of another model.
        """
        for name in sorted({param.name for param in self} ^ state.keys()):
            is_, should_be = ("there", "missing") if name in state else ("missing", "there")
            raise UserError(f"these are weights of another model: {name} is {is_}, not {should_be}")
        for param in self:
            array = state[param.name]
            if array.shape != param.shape:
                raise UserError(f"these are weights of another model: {param.name} is {array.shape}, not {param.shape}")
            param.data[...] = arranged(param.name, array)

    @property
    def size(self) -> int:
        """Number of elements of all tensors together."""
        last = next(reversed(self._params.values()), None)  # they lie one behind the other
        return 0 if last is None else last.slice.stop

    def __iter__(self) -> Iterator[Param]:
        return iter(self._params.values())

    def __getitem__(self, name: str) -> Param:
        return self._params[name]
