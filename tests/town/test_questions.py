"""Answers that fit: in the question's own spelling, or refused with what would fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytown.errors import Invalid
from tinytown.models.question import TEXT_BYTES, Question
from tinytown.town.questions import fitting


def question(*options: str, free_text: bool = False) -> Question:
    """Put a question."""
    return Question(
        id="qst_x",
        mission_id="m",
        task_id="t",
        kind="choice" if options else "text",
        text="Which?",
        options=options,
        free_text=free_text,
    )


@pytest.mark.parametrize("answer", ["Blue", "blue", " BLUE ", "\tblue\n"])
def test_an_answer_is_taken_in_the_spelling_of_the_question(answer: str) -> None:
    assert fitting(question("Red", "Blue"), answer) == "Blue"


def test_an_answer_outside_the_options_is_refused_with_the_options() -> None:
    with pytest.raises(Invalid, match="one of: Red, Blue") as caught:
        fitting(question("Red", "Blue"), "Green")
    assert caught.value.extra["options"] == ["Red", "Blue"]


def test_free_text_is_taken_as_it_is() -> None:
    assert fitting(question("Red", free_text=True), " Green, please ") == " Green, please "
    assert fitting(question(), " anything ") == " anything "


@pytest.mark.parametrize("answer", ["", "  \n ", "x" * (TEXT_BYTES + 1), "\ud800"])
def test_an_answer_has_something_to_say_and_fits_a_phone(answer: str) -> None:
    with pytest.raises(Invalid):
        fitting(question(), answer)


@given(
    st.lists(
        st.text(min_size=1, max_size=20).filter(str.strip),
        min_size=1,
        unique_by=lambda o: o.strip().casefold(),
    ),
    st.data(),
)
def test_every_option_fits_itself(options: list[str], data: st.DataObject) -> None:
    option = data.draw(st.sampled_from(options))
    try:
        option.encode()
    except UnicodeEncodeError:
        return
    assert fitting(question(*options), option) == option
