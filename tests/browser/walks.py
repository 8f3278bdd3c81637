"""What a visitor does, in few words."""

from playwright.async_api import Page

EMAIL, PASSWORD = "ada@example.test", "correct horse battery"


async def sign_up(page: Page, path: str = "/sign-up") -> None:
    await page.goto(path)
    await page.get_by_label("Your name").fill("Ada")
    await page.get_by_label("E-mail address").fill(EMAIL)
    await page.get_by_label("Password", exact=True).fill(PASSWORD)
    await page.get_by_role("button", name="Make account").click()


async def sign_in(page: Page, path: str = "/sign-in", password: str = PASSWORD) -> None:
    await page.goto(path)
    await page.get_by_label("E-mail address").fill(EMAIL)
    await page.get_by_label("Password", exact=True).fill(password)
    await page.get_by_role("button", name="Sign in", exact=True).click()


async def has_no_sideways_scrolling(page: Page) -> bool:
    return bool(await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))
