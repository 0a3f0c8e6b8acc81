"""Names of Sent folders in many languages."""

import unicodedata

import pytest

from services.providers.sent_names import is_sent_name, sent_names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Sent", True), ("SENT ITEMS", True), ("INBOX.Sent", True), ("[Gmail]/已发邮件", True), ("Ｓｅｎｔ", True), (" sent ", True),
        ("Odeslaná pošta", True), ("Elemente trimise", True), ("Enviadas", True), ("Itens Enviados", True), ("Saadetud kirjad", True),
        ("Wysłane", True), ("Σταλθέντα", True), ("נשלחו", True), ("INBOX.Verzonden", True), ("Надіслані", True), ("寄件備份", True),
        ("Messages envoyes", True), ("Elements envoyes", True), ("Wyslane", True), ("Odeslane", True), ("Gonderilmis Ogeler", True), ("Objets envoyés", True),
        ("Odeslané položky", True), ("Надіслані елементи", True), ("Padala", True), ("የተላኩ", True), ("Ti fi Ranṣẹ", True),
        ("Aika", False), ("Исходящие", False), ("已發送", True), ("寄件匣", True), ("보낸 메시지함", True), ("Sanda", False), ("Sant", False), ("Вихідні", False), ("草稿", False),
        ("Éléments envoyés", True), ("Отправленные", True), ("Sent to clients", False), ("Unsent", False), ("Drafts", False), ("", False),
    ],
)  # fmt: skip
def test_the_last_part_of_a_name_decides(name: str, expected: bool) -> None:
    assert is_sent_name(name) is expected


def test_names_are_compared_after_normalisation() -> None:
    assert all(name == unicodedata.normalize("NFKC", name).casefold().strip() for name in sent_names())
    assert len(sent_names()) > 50
