"""``repromark bench``: attacks."""

from pathlib import Path

from attacks.errors import InputError

from ..files import make_folder, write_text
from ..progress import say
from .outcome import Outcome


def attacks(
    *,
    methods: str = "all",
    libraries: str = "all",
    network: str | None = None,
    samples: int | None = None,
    repeats: int = 3,
    limit: float = 900.0,
    out: str | None = "runs/bench-attacks",
    seed: int = 0,
    progress: bool = False,
) -> Outcome:
    """Time our attacks and those of peer libraries side by side, against the bare passes of the network.

    Each library runs each method on each network in a process of its own with one thread, on the same samples and with
    the same settings; one judge says what fools the network. The peers come with `pip install repromark[bench]`; those
    that are not installed are left out.

    Args:
        methods: pgd, auto_pgd, carlini_wagner, deepfool, ddn, fmn, fmn_linf, fmn_l1, alma, alma_100, ead, fab, square,
            boundary_projection, hopskipjump, caa, autoattack, autoattack_fast, with commas between, or all.
        libraries: floor, repromark, foolbox, torchattacks, adv-lib, art, pyautoattack, with commas between, or all.
        network: digits, which is built in; from the folder that REPROMARK_ORACLES names target; from REPROMARK_ASSETS
            cnn_a_adv, resnet2b, oval_base_kw, wong_small_8px, wong_small_l2_36px, resnet20, resnet56; with commas
            between, or all that are there. By default target, cnn_a_adv and resnet20 where they are, or else digits.
        samples: of every method; by default up to 256, and fewer where a library or a network takes minutes for each.
        repeats: how often each is timed; once is kept where it takes more than a minute.
        limit: seconds after which a library's run is given up.
        out: folder for table.txt and results.json.
        seed: of all chance.
        progress: say what happens.

    Returns:
        The rows, and which targets were reached.
    """
    from ..benchmarks import benchmark, loadable_networks

    for name, number in (("samples", samples), ("repeats", repeats), ("limit", limit)):
        if number is not None and number <= 0:
            raise InputError(f"--{name} is {number}, but must be above 0.")
    place = None if out is None else make_folder(out)
    done = benchmark(
        methods=_words(methods),
        libraries=_words(libraries),
        networks=loadable_networks() if network == "all" else network and _words(network),
        samples=samples,
        repeats=repeats,
        limit=limit,
        seed=seed,
        said=say if progress else lambda line: None,
    )
    if place is not None:
        write_text(Path(place) / "table.txt", done.text())
    return Outcome(done.to_dict(), done.text(), folder=place)


def _words(text: str) -> list[str] | None:
    return None if text == "all" else [word.strip() for word in text.split(",")]
