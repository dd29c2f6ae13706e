from dist_llm.measuring.jobs import last_words

RULER = "-" * 74


def test_last_words_are_what_says_most():
    assert last_words("") == "its process ended without a word"
    assert last_words("Traceback\n  File x\nKeyError: 'a'\n") == "KeyError: 'a'"
    abort = f"{RULER}\nMPI_ABORT was invoked on rank 0\n{RULER}\nlast line"
    assert last_words(abort) == "MPI_ABORT was invoked on rank 0"
    assert last_words(f"{abort}\nerror: the disk is full\n") == "error: the disk is full"


def test_help_that_is_missing_is_no_reason():
    """What Open MPI prints under srun, where its help files are elsewhere: the reason comes after it."""
    missing = f"{RULER}\nSorry!  You were supposed to get help about:\n    find-available:not-valid\nSorry!\n{RULER}\n"
    assert last_words(f"{missing}srun: error: task 1: Killed\n") == "srun: error: task 1: Killed"
    assert last_words(f"{missing}{RULER}\nnot enough slots\n{RULER}\n") == "not enough slots"
