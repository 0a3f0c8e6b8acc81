"""Kinds by subject: a confusion table over synthetic subjects must have nothing beside its diagonal."""

from collections import Counter

import pytest

from services.mail.classify import classify
from services.mail.headers import Headers, parse
from services.standalone.servers.paths import ROOT

ID = "In-Reply-To: <a@b>"
REFERENCES = "References: <a@b>"
EXAMPLES: list[tuple[str, list[str]]] = [
    *((kind, [f"Subject: {subject}"]) for kind, subjects in {
        "automatic": [
            "Automatic reply: price", "Out of Office AutoReply: price", "自动回复:Re: 报价", "自动答复: 报价", "[自动回复] Re: x", "【自动回复】Re: x",
            "［自动回复］x", "自動回復: x", "自動回覆：x", "自動応答: x", "不在通知: x", "자동 회신: x", "부재중: x", "Автоматический ответ: x",
            "Automatyczna odpowiedź: x", "Automatisk svar: x", "Automatiskt svar: x", "Automaattinen vastaus: x", "Automatická odpověď: x",
            "Automatikus válasz: x", "Otomatik yanıt: x", "Αυτόματη απάντηση: x", "תשובה אוטומטית: x", "\u200fרד تلقائي: x".replace("רד", "رد"),
            "Trả lời tự động: x", "Balasan otomatis: x", "Absence du bureau : x", "Fuera de la oficina: x", "Fora do escritório: x",
            "Abwesenheit: x", "Abwesenheitsnotiz: x", "Automated reply: x", "Re: price (Automatic Response)", "Price （自动回复）",
            "[EXT] Automatic reply: x", "AUTOMATIC REPLY : x", "(Automatic reply) x", "Automatische Antwort\u00a0: x", "Fuori sede: x",
            "Automatic  reply: x", "Automatic\r\n \treply: x", "OTOMATİK YANIT: x", "ΑΥΤΟΜΑΤΗ ΑΠΑΝΤΗΣΗ: x", "Odpowiedz, x [Auto-Reply]", "REPONSE AUTOMATIQUE : x",
            "Automatyczna odpowiedz: x", "Automatische Rückantwort: x", "自動応答メール: x", "부재중 자동응답: x", "휴가 중 자동 응답: x", "休假自动回复: x", "自动回信: x",
            "自動回信：x", "休暇のお知らせ: x", "{Automatic reply} x", "《自动回复》x", "「自動返信」x", "<自动回复> x", "x《自动回复》", "Vacation Auto Reply: x",
            "Away from the office: x", "Message automatique : x", "Aviso de ausencia: x", "Mensagem automática: x", "Risponditore automatico: x",
            "Afwezigheidsmelding: x", "Sjálfvirkt svar: x", "Poissaoloviesti: x", "Нет в офисе: x", "Автоматски одговор: x", "Nepřítomnost: x",
            "Automatinis atsakymas: x", "Automaatvastus: x", "Automātiskā atbilde: x", "স্বয়ংক্রিয় উত্তর: x", "Resposta automàtica: x", "Erantzun automatikoa: x",
            "خودکار جواب: x", "الرد الآلي: x", "Balas otomatis: x", "ข้อความตอบกลับอัตโนมัติ: x",
        ],
        "forward": [
            "Fwd: x", "Fwd : x", "FW:x", "Fw\u00a0: x", "[Fwd: x]", "[list] [Fwd: x]", "[a] [b] Fwd: x", "Fwd[2]: x", "WG: x", "转发：x", "PD: Inquiry",
            "VS: x", "TR: x", "RV: x", "I: x", "ENC: x", "Пересл: x", "İLT: x", "ΠΡΘ: x", "전달: x", "Chuyển tiếp: x", "【转发: x】", "Inquiry (fwd)",
            "【转发】x", "[전달] x", "【転送】x", "{Fwd: x}", "<Fwd: x>", "Fwd2: x", "Fwd (2): x", "Doorst.: x", "Wtr: x", "Továbbítva: x", "TOVABBITAS: x",
            "Přeposláno: x", "Preposlané: x", "Proslijeđeno: x", "Posredovano: x", "Persiųsta: x", "Pārsūtīts: x", "Edasi: x", "Välitetty: x", "FS: x",
            "Framsent: x", "Videresend: x", "Reenv: x", "Προωθημένο: x", "轉送: x", "회송: x", "إعادة توجيه: x", "iletildi: x", "TR[2]: x",
        ],
        "human": [
            "Re: price", "Price", "Out of office chairs: our quotation", "Automatic reply machine", "自动回复机 20 件", "Forwarder: quotation",
            "Fw 20 pcs", "Re: Automatic reply: x", "Re: Fwd: x", "[Fwd] x", "[auto] parts: price", "Auto: Information", "Auto parts: price",
            "Automatic replyer: x", "Information: x", "TRX: 20", "Vs. your offer", "外出服: 20", "Price (automatic)", "Frånvarokontroll: x",
            "VS1: 20 pcs", "TR90: frames", "I5: boards", "PD65: chargers", "RV20 (12 m): price", "Holiday: gifts", "Absence of defects: report", "{urgent} x",
            "<b> x", "《合同》: x", "转发器: 20", "【转发器】x", "自动回复机器人: 报价", "Vacation homes: our offer", "Forward gear: x",
        ],
    }.items() for subject in subjects),
    *((kind, [f"Subject: {subject}", ID]) for kind, subjects in {
        "automatic": [
            "Automatic reply", "Out of Office until Monday", "Out of office - Bob", "Out of office 3 May", "自动回复 已收到", "自动回复您的邮件", "auto: x",
            "外出: x", "Abwesenheitsnotiz", "Automatic reply: x", "Abwesenheit bis 5.5.", "Absence du bureau du 3 au 5", "OOO: x",
            "自动回复我已收到您的邮件", "Urlaub: x", "Ausente: x", "Away: x",
        ],
        "forward": ["Fwd: x", "[Fwd: x]", "WG: x", "转发: x"],
        "human": [
            "Out of office chairs: our quotation", "TR: 20 pcs", "VS: Tarjous", "RV: 12 m", "ENC: price list", "I: x", "PD: 20 W", "Auto parts: x",
            "自动回复机: 报价", "Re: x (fwd)", "外出服 20", "Automatic reply-to button", "Auto-response unit XR-5", "Re: TR: x",
            "Holiday 2026 catalogue", "Away jersey 20", "Absence 3", "VL53L0X: price", "FS: 20 pcs", "TR90: frames", "ООО Ромашка: счёт", "OOO Romashka: invoice",
        ],
    }.items() for subject in subjects),
    ("forward", ["Subject: PD: Inquiry", REFERENCES]),
    ("forward", ["Subject: VS: Inquiry", REFERENCES]),
    ("human", ["Subject: x", "X-Autoreply: no"]),
    ("human", ["Subject: x", "X-Autorespond: False"]),
    ("automatic", ["Subject: x", "X-Autoreply: no", "X-Autorespond: yes"]),
    ("automatic", ["Subject: x", "X-Autoreply: TRUE"]),
    ("bounce", ["Subject: x", "From: Mail Delivery System <MAILER-DAEMON@mx.example>"]),
    ("bounce", ["Subject: x", "From: postmaster@mx.example"]),
    ("human", ["Subject: x", "From: postmaster@mx.example", ID]),
    ("automatic", ["Subject: x", "Auto-Submitted: (vacation) auto-replied"]),
    ("human", ["Subject: x", "Auto-Submitted: (a person) no"]),
    ("automatic", ["Subject: x", "Precedence: Auto-Reply"]),
    ("human", ["Subject: x", "X-Autoreply: disabled"]),
    ("human", ["Subject: x", 'Auto-Submitted: "no"']),
    ("human", ["Subject: x", "Auto-Submitted: No; owner-email=x"]),
    ("human", ["Subject: x", "Auto-Submitted: false"]),
    ("automatic", ["Subject: x", "Auto-Submitted: no", "Auto-Submitted: auto-replied"]),
    ("human", ["Subject: x", "Auto-Submitted:"]),
    ("bounce", ["Subject: x", "From: <MAILER_DAEMON@mx.example>"]),
    ("bounce", ["Subject: x", 'Content-Type: "multipart/report"; report-type=delivery-status']),
    ("human", ["Subject: x", "From: mailer@daemon.example"]),
    ("bounce", ["Subject: x", "Content-Type: (report) multipart/report; report-type=delivery-status"]),
    ("bounce", ["Subject: x", 'From: "" <>']),
    ("bounce", ["Subject: x", "From: MAILER-DAEMON"]),
    ("human", ["Subject: Re: x", "List-Unsubscribe: <mailto:x@y.z>", "To: A <a@b.c>", "Cc: a@b.c", ID]),
    ("bulk", ["Subject: x", "List-Unsubscribe: <mailto:x@y.z>", "To: a@b.c"]),
    ("human", ["Subject: Re: x", "List-Unsubscribe: <mailto:x@y.z>", "To: a@b.c", ID]),
    ("bulk", ["Subject: Re: x", "List-Unsubscribe: <mailto:x@y.z>", "To: a@b.c, d@e.f", ID]),
    ("bulk", ["Subject: Re: x", "Precedence: bulk", "To: a@b.c", ID]),
    ("bulk", ["Subject: Re: x", "List-Id: <x>", "To: a@b.c", ID]),
]  # fmt: skip


def kind_of(lines: list[str]) -> str:
    headers = parse("\r\n".join([*lines, "", ""]).encode())
    assert isinstance(headers, Headers)
    return classify(headers)[0]


@pytest.mark.parametrize(("kind", "lines"), EXAMPLES)
def test_the_kind_of_each_example(kind: str, lines: list[str]) -> None:
    assert kind_of(lines) == kind


def confusion() -> Counter[tuple[str, str]]:
    """(expected, classified as) → number of examples."""
    return Counter((kind, kind_of(lines)) for kind, lines in EXAMPLES)


def test_the_page_shows_the_confusion_table() -> None:
    kinds = ("human", "automatic", "forward", "bulk", "bounce")
    counted = confusion()
    rows = [f"| {kind} | " + " | ".join(str(counted[kind, result]) for result in kinds) + " |" for kind in kinds]
    assert "\n".join(rows) in (ROOT / "docs" / "matching.md").read_text("utf-8"), "\n".join(rows)
