"""Command-line options from a function's signature and docstring, and usage errors as sentences."""

import inspect
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal, NoReturn, get_origin

import docstring_parser
from jsonargparse import ActionYesNo, ArgumentParser

from attacks.errors import RepromarkError

MISSING = re.compile(r"the following arguments are required: (.*)")
NO_COMMAND = re.compile(r'expected "(.*)" to be one of {.*}, but it was not provided\.?')
WRONG_COMMAND = re.compile(r"argument command: invalid choice: '(.*)' \(choose from (.*)\)")
WRONG_TYPE = re.compile(
    r'Parser key "(?P<key>[^"]*)": (?P<kinds>.*?)\.?(?: Given value type: .*?)? (?:Got|Given) value: (?P<value>.*)'
)
KINDS = {"int": "an int", "float": "a float", "str": "a str", "bool": "a bool", "NoneType": "null"}


class UsageError(RepromarkError):
    """The command line, or a recipe, does not say what a command needs."""


class Parser(ArgumentParser):
    """A parser whose options are spelled with dashes, whose switches need no value, and whose errors are sentences."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)
        self.commands: dict[str, Parser] = {}

    def add_commands(self, parsers: "Mapping[str, Parser]") -> None:
        """Add commands, by name; each is described by its own parser."""
        action = self.add_subcommands(dest="command")
        for name, parser in parsers.items():
            action.add_subcommand(name, parser, help=parser.description)
            parser.prog = f"{self.prog} {name}"
            self.commands[name] = parser

    def add_argument(self, *names: str, **options: Any) -> Any:
        """Add an argument, as argparse does."""
        names = tuple(name.replace("_", "-") if name.startswith("--") else name for name in names)
        if options.get("type") is bool:
            del options["type"]
            options["action"] = ActionYesNo(no_prefix="no-")
        return super().add_argument(*names, **options)

    def add_function(self, function: Callable[..., Any], *, skip: set[str]) -> None:
        """Add a function's parameters: keyword-only ones as options, the others as positional arguments.

        An option annotated ``Annotated[str, names]`` takes one of the words that ``names()`` gives.
        """
        described = {one.arg_name: one.description for one in docstring_parser.parse(function.__doc__ or "").params}
        for name, parameter in inspect.signature(function).parameters.items():
            kind, text = parameter.annotation, described.get(name)
            if name in skip:
                continue
            if parameter.kind is not parameter.KEYWORD_ONLY:
                self.add_argument(name, help=text, **({"nargs": "+"} if get_origin(kind) is list else {}))
                continue
            if get_origin(kind) is Annotated:
                kind = Literal[tuple(kind.__metadata__[0]())]
            given = {"required": True} if parameter.default is parameter.empty else {"default": parameter.default}
            self.add_argument(f"--{name}", type=kind, help=text, **given)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Refuse what was given.

        Raises:
            UsageError: always.
        """
        text, parser = " ".join(message.split()), self
        if found := MISSING.fullmatch(text) or NO_COMMAND.fullmatch(text):
            # The outermost parser says so: the key names the commands on the way to what is missing.
            for word in found[1].split(", ")[0].split(".")[:-1]:
                parser = parser.commands[word]
        options = [option for action in parser._actions for option in action.option_strings]
        raise UsageError(f"{sentence(text, options, list(parser.commands))} `{parser.prog} --help` tells more.") from ex


def refuse_empty(settings: Mapping[str, Any]) -> None:
    """Refuse a setting that is an empty text, which as a path would mean the working folder.

    Raises:
        UsageError: naming the first one.

    Example:
        >>> refuse_empty({"task": "digits", "size": None})
    """
    for name, value in settings.items():
        if isinstance(value, str) and not value.strip():
            raise UsageError(f"`{name.replace('_', '-')}` is empty: give it a value, or leave it out.")


def summary(function: Callable[..., Any]) -> str:
    """The first sentence of a function's docstring.

    Example:
        >>> summary(summary)
        "The first sentence of a function's docstring."
    """
    return " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())


def sentence(text: str, options: list[str], commands: list[str]) -> str:
    """A parser's message as a sentence about options as they are typed.

    Args:
        text: the message, on one line.
        options: what the parser knows.
        commands: what may follow.

    Example:
        >>> sentence("argument command: invalid choice: 'rnu' (choose from 'run', 'demo')", [], ["run", "demo"])
        'There is no command rnu; did you mean run?'
        >>> sentence("unrecognized arguments: --tsak digits", ["--task"], [])
        'Unknown: --tsak digits; did you mean --task?'
    """
    if found := WRONG_TYPE.fullmatch(text):
        kinds = [KINDS.get(kind, kind) for kind in re.findall(r"<class '(\w+)'>", found["kinds"])]
        kinds = kinds or [re.sub(r".*Literal\[(.*)\].*", r"one of \1", found["kinds"])]
        return f"{option(found['key'], options)} is {found['value']}, but must be {' or '.join(dict.fromkeys(kinds))}."
    if found := MISSING.fullmatch(text):
        return f"Missing: {', '.join(option(key, options) for key in found[1].split(', '))}."
    if NO_COMMAND.fullmatch(text):
        return f"Missing: a command, one of {', '.join(commands)}."
    if found := WRONG_COMMAND.fullmatch(text):
        near = get_close_matches(found[1], commands, n=1)
        return f"There is no command {found[1]}{f'; did you mean {near[0]}?' if near else f': use {found[2]}.'}"
    if found := re.fullmatch(r"unrecognized arguments: (.*)", text):
        bare = {name.lstrip("-"): name for name in options}
        near = [match for word in found[1].split() for match in get_close_matches(word.lstrip("-"), bare, n=1)]
        return f"Unknown: {found[1]}{f'; did you mean {bare[near[0]]}?' if near else '.'}"
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def option(key: str, options: list[str]) -> str:
    """A parser's key as it is typed.

    Example:
        >>> option("reprogram.fit.image_size", ["--image-size"]), option("reprogram.predict.files", ["--image-size"])
        ('--image-size', 'FILES')
    """
    name = key.rsplit(".", 1)[-1].replace("_", "-")
    return f"--{name}" if f"--{name}" in options else name.upper()
