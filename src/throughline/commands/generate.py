"""`src/generate.py`: generates from a checkpoint: a text symbol by symbol, sequences that end by themselves, or frames."""

import csv
import io
import itertools
import json
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from throughline.commands.compose import launch
from throughline.data.arrays import read_arrays
from throughline.data.codecs import Codec
from throughline.data.codecs.bpe import Bpe
from throughline.data.codecs.bytes import Bytes
from throughline.data.codecs.frames import Frames
from throughline.data.files import read_bytes
from throughline.memory import of_generating, refuse_too_much
from throughline.model.settings import Head, Model
from throughline.plumbing import atomic, stopping
from throughline.plumbing.errors import UserError
from throughline.plumbing.reading import escaped, printable
from throughline.plumbing.startup import large_imports
from throughline.settings import STRICT, EscapedStr, NonNegative, PathStr, PositiveInt, defaults

if TYPE_CHECKING:
    from throughline.runs.trained import Generated, Trained

LENGTH_OF_LIKELIEST = 10
"""The symbols of the likeliest continuations, if nobody says how many."""
LIVE, LENGTHS = ("state", "state_out", "allowed", "endless", "interactive"), ("length", "max_length")
"""The settings with which one text is written step by step, and those that say how far."""
ROW_OF_ARRAY = 40
"""The fewest bytes of a row that waits for the longest one."""


@dataclass(frozen=True, config=STRICT)
class Generate:
    checkpoint: PathStr
    """A `.ckpt` file of a run, or a `.safetensors` file of an export."""
    prompt: EscapedStr | None = None
    """None: nothing for sequences with ends, else a line break, or the first symbol of a vocabulary without one. For frames,
    give a `.npy` file with an array (N, F), or none."""
    length: PositiveInt | None = None
    """Symbols in addition to the prompt, of texts without ends. None: 500. Frames need it, because they have no end."""
    max_length: PositiveInt | None = None
    """The most symbols in addition to the prompt, of sequences with ends. None: 1,000."""
    stop: EscapedStr | None = None
    """A text without ends stops before the first symbol in which this begins, or after `length` symbols. The prompt is not
    searched."""
    num_sequences: PositiveInt = 1
    """The number of texts, or of sequences with ends. Sequences are written one a line. Before each of several texts stands
    a line: `--- 1` and so on."""
    temperature: NonNegative = 0.8
    """Below 1, likelier symbols are preferred; 1 draws from the distribution as it is; 0 takes the likeliest symbol."""
    top_k: PositiveInt | None = None
    """Draw only among this number of the likeliest symbols."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Draw only among the fewest likeliest symbols whose probabilities add up to p (Holtzman 2020)."""
    min_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Draw only among symbols with at least so many times the probability of the likeliest one (Nguyen 2024): few where the
    network is sure, many where it is not."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    """None: another text each time. The drawn seed is printed on stderr. Give it to repeat the text."""
    out: PathStr | None = None
    """A file to write to instead of the terminal. Frames need it: the array (T, F), or (S, T, F) of several sequences, and a
    picture of it beside the file, with the ending `.png`."""
    format: Literal["auto", "text", "csv", "jsonl", "npy"] = "auto"
    """`csv`: the columns number and text. `jsonl`: a line of JSON each, with the symbols, or with ids if steps are bytes.
    `npy`: an array of ids, a row each, padded with 0. `auto`: by the ending of `out`; `text` for any other ending."""
    likeliest: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Instead of one draw, so many of the likeliest continuations with their probabilities, found by beam search."""
    allowed: PathStr | None = None
    """Draw only what may follow: a CSV file with the columns `from` and `to`, a pair of symbols a row. An empty cell is the
    beginning or the end of a sequence. `seen`: the pairs that stand side by side in the training data of the run."""
    endless: bool = False
    """Write until Ctrl-C, in constant memory; for texts without ends."""
    interactive: bool = False
    """Read lines from the terminal and continue each of them; the state is carried from one to the next. Ctrl-D ends it."""
    state: PathStr | None = None
    """A file of `state_out`: the sequence goes on there, as if it had not been interrupted. `prompt` is read first."""
    state_out: PathStr | None = None
    """Where the state is written at the end."""
    model: Model | None = None
    """Needed only for a user's own class. Give the same choice as in training."""
    codec: Codec | None = None
    """Needed only for a user's own class. Give the same choice as in training."""
    head: Head | None = None
    """Needed only for a user's own class. Give the same choice as in training."""


def generate(settings: Generate) -> None:
    """Generate from a checkpoint, and write the texts or the sequences.

    Raises:
        UserError: the prompt contains a symbol that the codec does not know, a setting is for the other kind of data, or the
            file cannot be written.
    """
    form = _format(settings)
    if settings.temperature == 0 and settings.num_sequences > 1:
        raise UserError(f"num_sequences={settings.num_sequences}: with temperature=0 all are the same; give a higher one")
    with large_imports():
        from throughline.model.generation import ROWS
        from throughline.runs.trained import load as load_trained

    trained = load_trained(settings.checkpoint, settings.model, settings.codec, settings.head)
    codec, model = trained.codec, trained.generator.settings
    if settings.likeliest is not None:
        show_likeliest(settings, trained)
        return
    if any(getattr(settings, key) for key in LIVE):
        generate_live(settings, trained)
        return
    if isinstance(codec, Frames):
        generate_frames(settings, trained, codec)
        return

    def needed(asked: Generate) -> int:
        rows = min(ROWS, asked.num_sequences) if codec.end is None else ROWS
        kept = ROW_OF_ARRAY * asked.num_sequences if form == "npy" else 0
        return kept + of_generating(model, codec.size, rows, trained.longest(asked.length, asked.max_length, asked.stop))

    refuse_too_much(settings, needed)
    caution(codec, settings.prompt)
    seed = secrets.randbits(32) if settings.seed is None else settings.seed
    where = settings.prompt, settings.length
    draws: dict[str, Any] = {
        "temperature": settings.temperature,
        "top_k": settings.top_k,
        "top_p": settings.top_p,
        "min_p": settings.min_p,
        "seed": seed,
    }
    sequences = trained.sequences(settings.num_sequences, *where, settings.max_length, settings.stop, **draws)
    cut = 0

    def counted() -> Iterator["Generated"]:
        nonlocal cut
        for sequence in sequences:
            cut += not sequence.whole
            yield sequence

    with opened(settings.out, form) as out:
        if settings.seed is None and settings.temperature:
            print(f"seed={seed}", file=sys.stderr, flush=True)
        if form == "npy":
            write_npy(counted(), out)
        elif form == "text" and codec.end is None and settings.num_sequences == 1:
            for piece in trained.stream(*where, settings.stop, **draws):
                print(piece, end="", flush=True, file=out)
            print(file=out)
        else:
            for line in {"text": texts, "csv": csv_lines, "jsonl": json_lines}[form](counted(), codec):
                print(line, end="", file=out)
    if cut:
        longest = trained.longest(settings.length, settings.max_length, settings.stop)
        print(f"{cut} of {settings.num_sequences} sequences were cut at max_length={longest}", file=sys.stderr)


def caution(codec: Codec, prompt: str | None) -> None:
    """Say which symbols of a prompt are not read as they are written."""
    for line in codec.cautions(prompt or ""):
        print(f"caution: {line}", file=sys.stderr, flush=True)


def show_likeliest(settings: Generate, trained: "Trained") -> None:
    """Print the likeliest continuations, each after its probability.

    Raises:
        UserError: these are frames, or the prompt cannot be read.
    """
    from throughline.model.generation import likeliest
    from throughline.runs.trained import continued

    codec = trained.codec
    refuse_others(settings, "likeliest", ("checkpoint", "prompt", *LENGTHS, "model", "codec", "head"))
    if isinstance(codec, Frames):
        raise UserError(f"likeliest={settings.likeliest}: frames have no list of continuations; leave it out")
    assert settings.likeliest is not None
    given = settings.length, settings.max_length
    length = LENGTH_OF_LIKELIEST if given == (None, None) else trained.longest(*given, None)
    caution(codec, settings.prompt)
    begin = codec.prompt(codec.opening if settings.prompt is None else settings.prompt)
    for probability, ids in likeliest(trained.generator, begin, length, settings.likeliest, codec.end):
        shown = ids[:-1] if ids[-1] == codec.end else ids
        text = "".join(continued(codec, begin, shown))
        end = " (end)" if ids[-1] == codec.end else ""
        print(f"{probability:.4f}  {escaped(text)!r}{end}")


def refuse_no_folder(state_out: str | None) -> None:
    """Refuse, before the work, a file for a state in a folder that is not there.

    Raises:
        UserError: it is not there.
    """
    if state_out is not None and not Path(state_out).parent.is_dir():
        raise UserError(f"state_out={state_out}: No such file or directory; give a file that can be written")


def refuse_others(settings: Generate, key: str, taken: Iterable[str]) -> None:
    """Refuse settings that would have no effect beside another one.

    Raises:
        UserError: one of them is given.
    """
    for name, usual in defaults(Generate).items():
        value = getattr(settings, name)
        if name not in (key, *taken) and value != usual:
            raise UserError(f"{name}={'true' if value is True else value}: has no effect with {key}; leave one of them out")


def generate_live(settings: Generate, trained: "Trained") -> None:
    """Continue one text from a state, without end, by allowed pairs, or in a conversation, and keep its state.

    Raises:
        UserError: a setting does not go with these.
    """
    from throughline.runs.trained import continued

    codec = trained.codec
    given = [key for key in LIVE if getattr(settings, key)]
    drawn = ("temperature", "top_k", "top_p", "min_p", "seed")
    refuse_others(settings, given[0], ("checkpoint", "prompt", "model", "codec", "head", *LIVE, *LENGTHS, *drawn))
    if settings.endless:
        refuse_others(settings, "endless", ("checkpoint", "prompt", "model", "codec", "head", *LIVE[:-1], *drawn))
    refuse_no_folder(settings.state_out)
    if isinstance(codec, Frames):
        raise UserError(f"{given[0]}: is for symbols here; frames are continued by throughline.load(...).live()")
    if settings.endless and codec.end is not None:
        raise UserError("endless=true: the sequences of this checkpoint end by themselves; give num_sequences=1000000")
    longest = None if settings.endless else trained.longest(settings.length, settings.max_length, None)
    live = trained.live(settings.state)
    allowed = None if settings.allowed is None else trained.allowed(settings.allowed)
    seed = settings.seed
    if seed is None and settings.state is None:
        seed = secrets.randbits(32)
        if settings.temperature:
            print(f"seed={seed}", file=sys.stderr, flush=True)
    draws: dict[str, Any] = {"temperature": settings.temperature, "top_k": settings.top_k, "top_p": settings.top_p}
    draws |= {"min_p": settings.min_p, "allowed": allowed}
    out = Terminal()

    def turn(prompt: str | None, seed: int | None) -> None:
        caution(codec, prompt)
        given = codec.opening if prompt is None and live.starts else prompt or ""
        ids = codec.prompt(given)[codec.end is not None :] if given else np.zeros(0, np.int64)
        if allowed is not None:
            allowed.refuse_dead_end(int(ids[-1]) if len(ids) else live.last, codec)  # before anything is read
        before = np.array(live.tail, np.int64)
        # A signal waits while the sequence is between two steps, so the state that is kept is that of the text shown.
        with stopping.waiting():
            for _ in live.read(ids):
                pass
            steps = itertools.chain(ids.tolist(), live.write(longest, seed, **draws))
            pieces = iter(continued(codec, before, steps))
            for piece in itertools.islice(pieces, len(ids)):
                print(piece, end="", file=out)
            out.flush()
        first = live.steps
        for number in itertools.count():
            with stopping.waiting():
                following = next(pieces, None)
                # After the last step comes what remains of a character, which goes on where the state is taken up.
                if following is None or (settings.state_out is not None and number == live.steps - first):
                    break
                print(following, end="", flush=True, file=out)
        print(file=out)

    def keep() -> None:
        if settings.state_out is not None:
            with stopping.waiting():
                live.save(settings.state_out)

    try:
        if settings.interactive:
            converse(turn, settings.prompt, seed)
        else:
            turn(settings.prompt, seed)
    except UserError:
        raise  # nothing that could be kept was asked for
    except BaseException:  # a signal, or nobody reads the text any longer
        if not live.starts:
            keep()
        raise
    keep()


def converse(turn: Callable[[str | None, int | None], None], prompt: str | None, seed: int | None) -> None:
    """Take turns with a person: a line, and how the network continues it."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # a byte that is no UTF-8 is refused as any other unknown sign
    if prompt is not None:
        turn(prompt, seed)
        seed = None
    while True:
        if sys.stdin.isatty():
            print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        try:
            turn(line.rstrip("\n") or None, seed)
            seed = None
        except UserError as error:  # a symbol that the network does not know
            print(error, file=sys.stderr, flush=True)


def generate_frames(settings: Generate, trained: "Trained", codec: Frames) -> None:
    """Write frames as an array, and a picture of the first sequence beside it.

    Raises:
        UserError: a setting is for symbols, the prompt is no array of such frames, or a file cannot be written.
    """
    from throughline.runs.frames_picture import drawn

    out = Path(settings.out or "")
    if settings.out is None or settings.format not in ("auto", "npy") or out.suffix.lower() != ".npy":
        given = "out" if settings.out is None else f"out={settings.out}"
        raise UserError(f"{given}: this checkpoint generates frames, which are written as an array; give out=FILE.npy")
    if not out.parent.is_dir():
        raise UserError(f"out={settings.out}: No such file or directory; give a file that can be written")
    prompt = None if settings.prompt is None else frames_of(settings.prompt)
    refuse_too_much(settings, lambda asked: 4 * codec.size * asked.num_sequences * (asked.length or 1))
    seed = secrets.randbits(32) if settings.seed is None else settings.seed
    frames = trained.frames(
        settings.num_sequences,
        prompt,
        settings.length,
        settings.max_length,
        settings.stop,
        settings.top_k,
        settings.top_p,
        settings.min_p,
        temperature=settings.temperature,
        seed=seed,
    )
    array, picture = io.BytesIO(), out.with_suffix(".png")
    np.save(array, frames if settings.num_sequences > 1 else frames[0])
    try:
        atomic.write({out: array.getvalue(), picture: drawn(frames[0], codec, "generated")})
    except OSError as error:
        raise UserError(f"out={settings.out}: {error.strerror}; give a file that can be written") from None
    if settings.seed is None and settings.temperature:
        print(f"seed={seed}", file=sys.stderr, flush=True)
    several = f"{settings.num_sequences:,} sequences of " if settings.num_sequences > 1 else ""
    print(f"{out}: {several}{frames.shape[1]:,} frames of {codec.width}; drawn in {picture}")


def frames_of(path: str) -> np.ndarray:
    """The array of a prompt.

    Raises:
        UserError: it is no file with a single array.
    """
    where = f"prompt={path}"
    arrays = read_arrays(read_bytes(path, "prompt"), where)
    if len(arrays) != 1:
        raise UserError(f"{where}: holds the arrays {', '.join(map(printable, arrays))}; give a .npy file with one")
    return next(iter(arrays.values()))


def _format(settings: Generate) -> str:
    """The format of the output; never auto."""
    ending = Path(settings.out or "").suffix.lower().removeprefix(".")
    form: str = settings.format
    if form == "auto":
        form = ending if ending in ("csv", "jsonl", "npy") else "text"
    if form == "npy" and settings.out is None:
        raise UserError("format=npy: is no text for a terminal; give out=FILE")
    return form


def texts(sequences: Iterable["Generated"], codec: Codec) -> Iterator[str]:
    """Sequences with ends, one a line, or of several lines with an empty line after each; other texts below numbers."""
    for number, sequence in enumerate(sequences, start=1):
        if codec.end is None:
            yield f"--- {number}\n{sequence.text}\n"
        else:
            yield sequence.text + ("\n\n" if "\n" in sequence.text else "\n")


def csv_lines(sequences: Iterable["Generated"], codec: Codec) -> Iterator[str]:
    """CSV with the columns number and text; texts are quoted, because they may hold line breaks of any kind."""
    writer = csv.writer(SimpleNamespace(write=str), quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    yield "number,text\n"
    for number, sequence in enumerate(sequences, start=1):
        yield str(writer.writerow([number, sequence.text]))


def json_lines(sequences: Iterable["Generated"], codec: Codec) -> Iterator[str]:
    """An object of JSON a line, in ASCII, so that no terminal has to escape it; parts of characters are no text, but ids."""
    for number, sequence in enumerate(sequences, start=1):
        steps = (
            {"ids": sequence.ids}
            if isinstance(codec, Bytes | Bpe)
            else {"symbols": [codec.decode([id]) for id in sequence.ids]}
        )
        yield json.dumps({"number": number, "text": sequence.text, **steps}) + "\n"


def write_npy(sequences: Iterable["Generated"], out: BinaryIO) -> None:
    """Write the ids (S, T) as int32, padded with 0; only the ids themselves are kept in memory."""
    rows = [np.array(sequence.ids, "<i4").tobytes() for sequence in sequences]
    longest = max(map(len, rows))
    header = {"descr": "<i4", "fortran_order": False, "shape": (len(rows), longest // 4)}
    np.lib.format.write_array_header_1_0(out, header)
    out.writelines(row.ljust(longest, b"\0") for row in rows)


class Terminal:
    """The terminal, on which signs that it might take for commands are shown as escapes."""

    def write(self, text: str) -> int:
        return sys.stdout.write(escaped(text))

    def flush(self) -> None:
        sys.stdout.flush()


@contextmanager
def opened(out: str | None, form: str) -> Iterator[Any]:
    """Where the texts go. A file of text grows while it is written; any other one appears when it is complete.

    Raises:
        UserError: the file cannot be written.
    """
    if out is None:
        yield Terminal()
        return
    path = Path(out)
    try:
        if form == "text":
            with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
                yield file
            return
        text = {} if form == "npy" else {"encoding": "utf-8", "errors": "backslashreplace"}
        with atomic.opened(path, "xb" if form == "npy" else "x", **text) as file:
            yield file
    except OSError as error:
        raise UserError(f"out={out}: {error.strerror}; give a file that can be written") from None


def main(root: Path | None = None) -> None:
    """Run the command; `root` is the folder that contains `outputs/`, by default the current one."""
    launch("generate", Generate, generate, root)
