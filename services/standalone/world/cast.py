"""Who is who in the demo world: eight sellers, four of them with a rate of 0 for the four well-known reasons.

`build(seed, now)` plans about 40 days of history, `build_live(world, at)` what happens while the demo runs. Both are
functions of their arguments: chance comes from the seed alone (services.standalone.world.script).
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from services.standalone.world import special_cases
from services.standalone.world.script import HISTORY_DAYS, Script
from services.standalone.world.world import (
    World,
    WorldMail,
)

ADDRESS_CHANGED_DAYS = 37
"""How many days ago one seller's address changed: longer than the window looks back."""


def build(seed: int, now: datetime) -> World:
    """The history: companies, mailboxes, inquiries, what the platform published, and the mail in the Sent folders."""
    now = now.astimezone(UTC).replace(microsecond=0)
    script = Script(seed, now)
    _healthy(script)
    _sub_account(script)
    _backup_connected(script)
    _synced(script)
    for company_id, title, story in (
        ("bf-valves", "北方阀门 Beifang Valves", "wrong-mailbox"),
        ("ds-toys", "东升玩具 Dongsheng Toys", "backup-not-connected"),
        ("km-plastics", "凯美塑料 Kaimei Plastics", "sent-not-stored"),
    ):
        _zero(script, company_id, title, story)
    _address_changed(script)
    return script.world()


def build_live(world: World, at: datetime) -> World:
    """What happens from `at` on: new inquiries in the healthy companies, most of them answered at once."""
    at = at.astimezone(UTC).replace(microsecond=0)
    script = Script(world.seed + 1, at, prefix="live")
    for company in world.companies:
        connected = [mailbox for mailbox in company.mailboxes if mailbox.connected]
        if company.story not in ("healthy", "sub-account", "backup-connected"):
            continue
        for number in range(4):
            mailbox = connected[number % len(connected)]
            received_at = at - timedelta(minutes=3 + 2 * number)
            inquiry = script.inquiry(company.company_id, mailbox.account_id, received_at, wave="live")
            if number == 2:
                script.reply(inquiry, mailbox, timedelta(seconds=30), kind="automatic", wave="live")
            elif number != 3:
                script.reply(inquiry, mailbox, at - received_at - timedelta(seconds=5 + number), wave="live")
    return replace(script.world(), companies=world.companies)


def _healthy(script: Script) -> None:
    """One account, one mailbox, nearly everything in time; and every kind of mail that is not a reply."""
    account = script.account("hx-tools", "hx-main", address="zhang.wei@hx-tools.example")
    mailbox = script.mailbox(account, "已发送")
    script.company("hx-tools", "华兴五金 Huaxin Tools", "healthy", [account], [mailbox])
    inquiries = script.inquiries(account, 80)
    script.answer(inquiries, mailbox, timely=0.88, late=0.06, wave_from=50)
    special_cases.add(script, inquiries, account, mailbox)
    script.noise(mailbox, 60)


def _sub_account(script: Script) -> None:
    """A main account and two sub-accounts; the third one has no mailbox, so what it leaves open is not measured."""
    main = script.account("lt-textile", "lt-main", address="sales@lt-textile.example")
    sub = script.account("lt-textile", "lt-sub-chen", kind="sub", address="chen@lt-textile.example")
    bare = script.account("lt-textile", "lt-sub-wu", kind="sub")
    first, second = script.mailbox(main, "Sent Messages"), script.mailbox(sub, "Sent")
    script.company("lt-textile", "蓝天纺织 Lantian Textile", "sub-account", [main, sub, bare], [first, second])
    script.answer(script.inquiries(main, 40), first, timely=0.7, late=0.15, wave_from=20)
    script.answer(script.inquiries(sub, 35), second, timely=0.5, late=0.3, wave_from=35)
    # The main account's mailbox answers some inquiries of the sub-account that has no mailbox of its own.
    orphans = script.inquiries(bare, 16)
    script.answer(orphans[:5], first, timely=1.0, late=0.0, wave_from=9)
    moved = script.inquiry("lt-textile", "lt-main", script.past(15))
    script.status(moved, "reassigned", moved.received_at + timedelta(hours=3), account_id="lt-sub-chen")
    script.reply(moved, second, timedelta(hours=9))
    script.noise(first, 25)
    script.noise(second, 20)


def _backup_connected(script: Script) -> None:
    """Replies leave from the registered mailbox and from the backup one; both are connected."""
    account = script.account(
        "rd-lighting", "rd-main", address="info@rd-lighting.example", backup="rd.export@mail-backup.example"
    )
    registered, backup = script.mailbox(account, "Sent Items"), script.mailbox(account, "Sent", role="backup")
    script.company("rd-lighting", "瑞达照明 Ruida Lighting", "backup-connected", [account], [registered, backup])
    inquiries = script.inquiries(account, 60)
    script.answer(inquiries[::2], registered, timely=0.6, late=0.2, wave_from=15)
    script.answer(inquiries[1::2], backup, timely=0.75, late=0.15, wave_from=15)
    # One message in both Sent folders is one reply.
    twice = script.inquiry("rd-lighting", "rd-main", script.past(12))
    letter = script.reply(twice, registered, timedelta(hours=2))
    script.mails.append(WorldMail(backup.key, letter, letter.date + timedelta(seconds=20)))
    script.noise(registered, 20)
    script.noise(backup, 20)


def _synced(script: Script) -> None:
    """No mailbox at all: the account answers through the platform's own mail."""
    account = replace(
        script.account("jh-marine", "jh-main"), synced_from=script.now - timedelta(days=HISTORY_DAYS + 10)
    )
    script.company("jh-marine", "金海船配 Jinhai Marine", "synced-by-platform", [account], [])
    for number, inquiry in enumerate(script.inquiries(account, 45)):
        draw = script.random.random()
        if draw < 0.08:
            script.status(inquiry, "declined", inquiry.received_at + timedelta(hours=5))
        elif draw < 0.72:
            script.platform_reply(inquiry, script.timely())
        elif draw < 0.86:
            script.platform_reply(inquiry, script.late())
        if number % 4 == 0:
            script.platform_reply(inquiry, timedelta(seconds=20), automatic=True)


def _zero(script: Script, company_id: str, title: str, story: str) -> None:
    """A seller who answers nearly everything, from a mailbox that is not connected."""
    domain = f"{company_id}.example"
    backup = f"{company_id}.sales@mail-backup.example" if story == "backup-not-connected" else None
    account = script.account(company_id, f"{company_id[:2]}-main", address=f"info@{domain}", backup=backup)
    connected = script.mailbox(account, "Sent")
    unseen_role: Literal["registered", "backup"] = "backup" if backup else "registered"
    address = backup or f"sales@{domain}"
    unseen = replace(
        script.mailbox(account, "Sent"),
        key=f"{connected.key}/unseen",
        role=unseen_role,
        address=address,
        connected=False,
    )
    script.company(company_id, title, story, [account], [connected, unseen])
    script.answer(script.inquiries(account, 40), unseen, timely=0.85, late=0.1, wave_from=20)
    if story != "sent-not-stored":
        script.noise(connected, 70 if story == "wrong-mailbox" else 12, touches_buyers=False)


def _address_changed(script: Script) -> None:
    """The old mailbox was connected and answered; then the address changed, and replies leave from the new one."""
    account = script.account("yg-ceramics", "yg-main", address="export@yg-ceramics.example")
    old = replace(script.mailbox(account, "已发送"), address_changes=True)
    new = replace(old, key=f"{old.key}/new", address="export@yg-group.example", connected=False, address_changes=False)
    script.company("yg-ceramics", "永光陶瓷 Yongguang Ceramics", "address-changed", [account], [old, new])
    change = script.now - timedelta(days=ADDRESS_CHANGED_DAYS)
    inquiries = script.inquiries(account, 45)
    before = [inquiry for inquiry in inquiries if inquiry.received_at < change - timedelta(days=1)]
    script.answer(before, old, timely=1.0, late=0.0, wave_from=99)
    script.answer([inquiry for inquiry in inquiries if inquiry not in before], new, timely=0.9, late=0.1, wave_from=20)
    for number in range(12):
        script.ordinary_mail(old, change - timedelta(days=number, hours=5))
