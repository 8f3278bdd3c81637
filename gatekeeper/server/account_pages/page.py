"""What a page is: shown, sent, and shown again with what is wrong."""

from typing import Protocol

from gatekeeper.server.account_pages.refusals import fault_of
from gatekeeper.server.account_pages.visit import Fault, Visit
from gatekeeper.server.answers import Answer, Headers
from gatekeeper.server.auth_refusals import Refusal


class Page(Protocol):
    """A page of ours.  With `needs_session` it is never shown to who has none.

    Every call raises StoreError.
    """

    needs_session: bool

    async def show(self, visit: Visit) -> Answer:
        """The page as it is opened."""
        ...

    async def send(self, visit: Visit) -> Answer:
        """What comes of its form, which has been found to be ours."""
        ...

    async def again(self, visit: Visit, status: int, fault: Fault, headers: Headers = ()) -> Answer:
        """The page once more, with what was typed, and what is wrong with it."""
        ...


async def refused(page: Page, visit: Visit, refusal: Refusal, *, new_field: str = "", min_length: int = 0) -> Answer:
    """The page once more, for a call that was refused."""
    seconds = refusal.retry_after_s
    headers = () if seconds is None else ((b"Retry-After", b"%d" % seconds),)
    fault = fault_of(refusal, visit.words, new_field=new_field, min_length=min_length)
    return await page.again(visit, refusal.status, fault, headers)
