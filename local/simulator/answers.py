"""Writes the simulated models' answers: always the same for the same question, different for another."""

import hashlib
import json
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

Json = dict[str, Any]

_TOKEN = re.compile(r"\s*(?:[A-Za-z]{1,6}|\d{1,3}|[^\sA-Za-z\d])|\s+")
_WORD = re.compile(r"[A-Za-z][a-z]{3,}")
# fmt: off
_COMMON = frozenset({
    "about", "after", "again", "also", "been", "before", "being", "could", "does", "doing", "every", "from",
    "have", "here", "into", "just", "like", "make", "more", "most", "much", "only", "other", "please",
    "some", "such", "tell", "than", "that", "their", "them", "then", "there", "these", "they", "this",
    "tool", "under", "very", "want", "were", "what", "when", "where", "which", "while", "will", "with",
    "would", "write", "your", "yours",
})
# fmt: on

_OPENINGS = {
    "roleplay": (
        '*looks up slowly, a half smile at the corner of the mouth* "So it is {topic} that brought you here."',
        '*sets the lantern down between us* "{Topic}? I wondered when somebody would dare to ask."',
        '*leans against the door frame and weighs the words* "Careful. Talk of {topic} travels far in this town."',
        '*laughs under the breath* "You have not changed at all. Always {topic}, always at midnight."',
    ),
    "story": (
        "On the morning that {topic} came back to the valley, the bells refused to ring.",
        "Nobody in the harbour spoke of {topic} any more, and that was how Mara knew it was near.",
        "The letter held a single line about {topic}, written in a hand that had been dead for years.",
        "Long after the rain had stopped, {topic} still lay upon the town like a held breath.",
    ),
    "prompt": (
        "{Topic} in the foreground, caught in a moment of quiet movement.",
        "A wide view of {topic}, seen from slightly below eye level.",
        "A close study of {topic}, with every surface carefully described.",
    ),
    "chat": (
        "Good question about {topic}; there is a short answer and a longer one.",
        "Let us take {topic} step by step, because the order matters more than people think.",
        "When it comes to {topic}, I would begin with what you already have.",
        "I have been turning {topic} over, and one thing stands out.",
    ),
}

_BODIES = {
    "roleplay": (
        '"I kept the {thing} you left behind," *the voice drops* "though it was never quiet for long."',
        "*A log breaks in the fire, and for a heartbeat the whole room turns the colour of {colour}.*",
        '"Sit. Eat something. Then tell me what you saw by the {place}, and leave nothing out."',
        "*Fingers drum on the old table, once, twice, then stop.*",
        '"They will say I lied to you. Perhaps I did. But I never lied about the {thing}."',
        "*steps closer until only the {thing} lies between us*",
        '"We have until the tide turns. After that the {place} belongs to somebody else."',
        "*Outside, a dog barks at nothing, and the {colour} curtains stir.*",
        '"Will you come with me, or must I walk to the {place} alone?"',
    ),
    "story": (
        "She followed the smell of {colour} smoke past the {place} and did not look back.",
        "There, under a loose board, waited the {thing}, wrapped in oilcloth and still warm.",
        "Her brother would have laughed; her mother would have locked the door.",
        '"You took your time," said a voice from the dark, not unkindly.',
        "By noon the whole street had found a reason to walk along the {place}.",
        "It was not courage that moved her feet, only the certainty that standing still was worse.",
        "The {thing} clicked once, like a tongue against teeth, and somewhere far below a gate swung open.",
        "For the first time that winter, the sky over the {place} turned {colour}.",
        "When evening came, nothing was settled, yet everything had moved a little.",
    ),
    "prompt": (
        "Soft {colour} light falls from the left and wraps around the edges.",
        "Behind it the {place} fades into a shallow blur.",
        "Fine texture on the {thing}, with small flaws that make it feel used.",
        "A restrained palette of {colour}, slate and warm white keeps the mood calm.",
        "Composition on the lower third, with generous empty space above.",
        "Shot as if on a fifty millimetre lens, natural grain, high dynamic range.",
        "Dust hangs in the air and gives the depth a gentle haze.",
    ),
    "chat": (
        "First, write down what must not change, since that is easy to lose on the way.",
        "A small trial tells you more than a long plan, and it costs an afternoon at most.",
        "Most people stumble at the {place}, simply because nobody told them to look there.",
        "If you can, compare two versions side by side and keep the plainer one.",
        "It helps to think of it as a {thing}: useful every day, admired by nobody.",
        "There is one exception, and it usually shows itself in the first week.",
        "You could also ask somebody who has done it twice, not somebody who has done it once.",
        "After that, the rest tends to fall into place without much force.",
        "Does that fit what you had in mind, or shall I go into one part of it?",
    ),
}
_THINGS = ("compass", "silver key", "ledger", "music box", "mirror", "lamp", "broken watch", "map", "wooden spoon")
_PLACES = ("river", "old station", "north gate", "lighthouse", "market", "orchard", "second stair", "bridge")
_COLOURS = ("amber", "copper", "violet", "pale green", "rust", "indigo", "honey")
_THOUGHTS = (
    "The user wants something specific, so I should first find out what matters most.",
    "There are two ways to read this, and the plainer one fits better.",
    "I should keep the tone of the earlier messages.",
    "A short opening and then one concrete detail would work well.",
    "Let me check that nothing contradicts what was said before.",
    "I will end with something that invites an answer.",
)


def tokens(text: str) -> list[str]:
    """Cut text into pieces about as long as a tokenizer's; joined they are the text again."""
    return _TOKEN.findall(text)


def text_of(message: Mapping[str, Any]) -> str:
    """The words of one message, whether its content is a string, parts or null."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return ""


def prompt_tokens(messages: Sequence[Mapping[str, Any]]) -> int:
    """How many tokens the question costs, with the usual few for each message's frame."""
    return 3 + sum(4 + len(tokens(text_of(message))) for message in messages)


def written(seed: int, model: str, messages: Sequence[Mapping[str, Any]]) -> str:
    """A few sentences of prose that take up a word of the last user message."""
    chance = _chance(seed, model, messages)
    voice = _voice(messages)
    last = next((text_of(message) for message in reversed(messages) if message.get("role") == "user"), "")
    candidates = [word for word in _WORD.findall(last) if word.lower() not in _COMMON]
    topic = chance.choice(candidates).lower() if candidates else "the matter"
    bodies = _BODIES[voice]
    sentences = [chance.choice(_OPENINGS[voice]), *chance.sample(bodies, chance.randint(3, min(7, len(bodies))))]
    filled = [
        sentence.format(
            topic=topic,
            Topic=topic.capitalize(),
            thing=chance.choice(_THINGS),
            place=chance.choice(_PLACES),
            colour=chance.choice(_COLOURS),
        )
        for sentence in sentences
    ]
    return ("\n\n" if voice == "roleplay" else " ").join(filled)


def thought(seed: int, model: str, messages: Sequence[Mapping[str, Any]], length: int) -> str:
    """A train of reasoning exactly `length` tokens long."""
    chance = _chance(seed, f"{model} thinking", messages)
    pieces: list[str] = []
    while len(pieces) < length:
        pieces += tokens((" " if pieces else "") + chance.choice(_THOUGHTS))
    return "".join(pieces[:length])


def identifier(seed: int, *about: object) -> str:
    """Twenty letters and digits, the same for the same words."""
    chance = random.Random(f"{seed}/{about}")
    return "".join(chance.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", k=20))


def instance(schema: Any, root: Any = None) -> Any:
    """The smallest value that a JSON schema allows."""
    if not isinstance(schema, dict):
        return {}
    root = schema if root is None else root
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/"):
        target: Any = root
        for step in reference[2:].split("/"):
            target = target.get(step, {}) if isinstance(target, dict) else {}
        return instance(target, root)
    for fixed in ("const", "default"):
        if fixed in schema:
            return schema[fixed]
    if schema.get("enum"):
        return schema["enum"][0]
    for choices in ("anyOf", "oneOf", "allOf"):
        if schema.get(choices):
            return instance(schema[choices][0], root)
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        properties: Json = schema.get("properties", {})
        return {name: instance(properties.get(name), root) for name in schema.get("required", properties)}
    if kind == "array":
        return [instance(schema.get("items"), root) for _ in range(int(schema.get("minItems", 0)))]
    if kind in {"integer", "number"}:
        return schema.get("minimum", 1)
    if kind == "string":
        return "simulated".ljust(int(schema.get("minLength", 0)), ".")[: int(schema.get("maxLength", 10_000))]
    return {"boolean": True}.get(kind)


def _voice(messages: Sequence[Mapping[str, Any]]) -> str:
    system = " ".join(text_of(message) for message in messages if message.get("role") in {"system", "developer"})
    system = system.lower()
    if "prompt" in system and any(word in system for word in ("enhanc", "improv", "rewrite", "image", "video")):
        return "prompt"
    if any(word in system for word in ("roleplay", "role-play", "role play", "character", "persona", "scenario")):
        return "roleplay"
    if any(word in system for word in ("story", "stories", "narrat", "fiction", "creative", "genre")):
        return "story"
    return "chat"


def _chance(seed: int, model: str, messages: Sequence[Mapping[str, Any]]) -> random.Random:
    question = json.dumps([seed, model, messages], sort_keys=True, default=str)
    return random.Random(hashlib.sha256(question.encode()).digest())
