"""How the functions of this room are compiled: as numba does it, kept for later processes, and like NumPy on errors."""

from numba import njit

# Products and sums may become one instruction, which rounds once instead of twice.
compiled = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
# As it is written: the same in every bit as NumPy.
compiled_exactly = njit(cache=True, nogil=True, error_model="numpy")
# Sums may be added up in another order, that of a vector's lanes.
compiled_sums = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc"})
