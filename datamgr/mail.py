"""How mail leaves: one message to one address, by the configured server."""

import smtplib
from contextlib import suppress
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage

from datamgr.config_nightly import AlertSettings
from datamgr.errors import InvalidError, UnavailableError


def message(subject: str, receiver: str, text: str, *, sender: str, id: str) -> EmailMessage:
    """A message in plain text. `id` is the same for repeats, so that these can be recognised."""
    made = EmailMessage(policy=policy.SMTP)
    made["Subject"] = subject
    made["From"], made["To"] = sender, receiver
    made["Date"] = datetime.now(UTC)
    made["Message-ID"] = f"<{id}@datamgr>"
    # Keeps vacation programs from answering. Source: RFC 3834, section 5.
    made["Auto-Submitted"] = "auto-generated"
    made.set_content(text, cte="quoted-printable")
    return made


def send(told: EmailMessage, settings: AlertSettings) -> None:
    """Hand a message to `alerts.smtp`; returns when it was accepted.

    Raises:
        UnavailableError: the server does not answer, or not in time.
        InvalidError: it refuses the message.
    """
    host, _, port = settings.smtp.rpartition(":")
    try:
        server = smtplib.SMTP(host.strip("[]"), int(port), timeout=settings.timeout_s)
        try:
            server.send_message(told)
            with suppress(smtplib.SMTPException, OSError):  # it was accepted, whatever comes now
                server.quit()
        finally:
            server.close()
    except (smtplib.SMTPServerDisconnected, smtplib.SMTPConnectError) as error:
        raise UnavailableError(f"the mail server {settings.smtp} hung up: {error}") from error
    except smtplib.SMTPException as error:
        raise InvalidError(
            f"the mail server {settings.smtp} refuses mail to {told['To']}: {error}"
        ) from error
    except OSError as error:
        raise UnavailableError(f"the mail server {settings.smtp} is away: {error}") from error
