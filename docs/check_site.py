"""Look at the built documentation as a reader does: each page in headless Chromium, wide and as on a phone.

    python docs/check_site.py docs/_build/html --screenshots FOLDER

Fails on broken links and anchors, console errors, requests that fail or leave this machine, pages and tables of text
wider than a phone, formulas that are not typeset, code that its button does not copy, and a search that finds nothing.
``--dark`` shows the dark theme.  Needs Chromium and its driver, ``apt install chromium chromium-driver``, and selenium.
"""

import argparse
import base64
import json
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

DESKTOP, PHONE = (1280, 900), (390, 844)
SEARCHED = "SFMForecaster"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

# The element that reaches farthest beyond the screen, but for code, tables and formulas, which scroll by themselves.
OVERFLOW = """
const width = document.documentElement.clientWidth, right = (element) => element.getBoundingClientRect().right;
const scrolls = "pre, .pst-scrollable-table-container, .math";
const beyond = [...document.querySelectorAll("body > *, article *")]
  .filter((element) => right(element) > width + 1 && !element.parentElement.closest(scrolls))
  .sort((a, b) => right(b) - right(a))
  .map((element) => `<${element.tagName} class="${element.className}"> ends at ${Math.round(right(element))} px`);
return document.documentElement.scrollWidth > width ? beyond[0] || "the page" : beyond[0];
"""

# On a phone a table of text is a list; only tables of figures, with cells on the right, may scroll sideways.
TABLES = """
return [...document.querySelectorAll("article table:not(:has(.text-right))")]
  .filter((table) => table.scrollWidth > table.parentElement.clientWidth + 1)
  .map((table) => table.textContent.trim().replace(/\\s+/g, " ").slice(0, 60));
"""

MATHS = """
return [...document.querySelectorAll(".math")]
  .filter((formula) => !formula.querySelector("mjx-container") || formula.querySelector("mjx-merror, [data-mjx-error]"))
  .map((formula) => formula.textContent.trim());
"""

# Code blocks without a button, or whose button copies something else; of doctests the input alone is copied.
COPIES = r"""
(async () => {
  const bad = [], prompt = /^(>>> |\.\.\. )/;
  const words = (lines) => lines.map((line) => line.trimEnd()).filter(Boolean).join("\n");
  for (const block of document.querySelectorAll("div.highlight > pre")) {
    if (block.closest(".sphx-glr-script-out")) continue;
    const lines = block.innerText.split("\n"), prompted = lines.filter((line) => prompt.test(line));
    const expected = prompted.length ? prompted.map((line) => line.replace(prompt, "")) : lines;
    const button = block.parentElement.querySelector("button.copybtn");
    await navigator.clipboard.writeText("");
    button?.click();
    const copied = await navigator.clipboard.readText();
    if (!button || words(copied.split("\n")) !== words(expected)) bad.push(`${lines[0]} ... copied as ${copied}`);
  }
  return bad;
})()
"""


class Links(HTMLParser):
    """What a page points to, and the anchors that it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = {"", "top"}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element's addresses and names."""
        for name, value in attrs:
            if value and (name == "id" or (tag == "a" and name == "name")):
                self.anchors.add(value)
            elif value and name in ("href", "src"):
                self.targets.append(value)


def broken_links(site: Path) -> Iterator[str]:
    """Links within the site to files or anchors that are not there."""
    pages = {path.relative_to(site).as_posix(): Links(path) for path in sorted(site.rglob("*.html"))}
    for page, links in pages.items():
        for target in links.targets:
            address, anchor = urldefrag(urljoin(f"site:///{page}", target))
            if not address.startswith("site:"):
                continue
            path = unquote(urlsplit(address).path).lstrip("/")
            if not (site / path).is_file():
                yield f"{page}: there is no {target}"
            elif path in pages and unquote(anchor) not in pages[path].anchors:
                yield f"{page}: there is no anchor {target}"


@contextmanager
def served(site: Path) -> Iterator[str]:
    """Serve the site on this machine and yield its address."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()


class Browser:
    """Chromium, and what it complains about."""

    def __init__(self, profile: str, dark: bool = False) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        self.driver.set_script_timeout(60)
        self.driver.get("about:blank")
        list(self.complaints())  # those of the browser's own first page
        self.command("Emulation.setScrollbarsHidden", hidden=True)  # as on a phone
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[theme])
        self.command("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])

    def command(self, name: str, **arguments: object) -> dict:
        """Run a command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, arguments)

    def resize(self, size: tuple[int, int]) -> None:
        """Show pages on a screen of so many pixels."""
        width, height = size
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=size == PHONE
        )

    def open(self, address: str) -> None:
        """Load a page and wait for its formulas."""
        self.driver.get(address)
        self.evaluate("window.MathJax?.startup.promise.then(() => null)")

    def complaints(self) -> Iterator[str]:
        """Errors of the console and of the network since the last call."""
        for entry in self.driver.get_log("browser"):
            if entry["level"] == "SEVERE":
                yield f"console: {entry['message']}"
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            parameters = message["params"]
            if message["method"] == "Network.requestWillBeSent":
                address = urlsplit(parameters["request"]["url"])
                if address.scheme.startswith(("http", "ws")) and address.hostname != "127.0.0.1":
                    yield f"leaves this machine: {address.geturl()}"
            elif message["method"] == "Network.responseReceived" and parameters["response"]["status"] >= 400:
                yield f"status {parameters['response']['status']}: {parameters['response']['url']}"
            elif message["method"] == "Network.loadingFailed" and not parameters.get("canceled"):
                yield f"failed: {parameters['errorText']}"

    def evaluate(self, expression: str) -> Any:
        """Return what a promise resolves to, as after a click: a page may write to the clipboard only then."""
        found = self.command(
            "Runtime.evaluate", expression=expression, awaitPromise=True, userGesture=True, returnByValue=True
        )
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression} failed: {found['exceptionDetails']}")
        return found["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """Write a picture of the whole page."""
        found = self.command("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))


def faults_of_page(browser: Browser, address: str, screenshots: Path | None, name: str) -> Iterator[str]:
    """Yield the faults of one page."""
    browser.resize(DESKTOP)
    browser.open(address)
    yield from (f"formula is not typeset: {formula}" for formula in browser.driver.execute_script(MATHS))
    yield from (f"code is not copied: {block}" for block in browser.evaluate(COPIES))
    for size in (DESKTOP, PHONE):
        browser.resize(size)
        if overflow := browser.driver.execute_script(OVERFLOW):
            yield f"wider than {size[0]} px: {overflow}"
        if size == PHONE:
            yield from (f"table of text scrolls: {table}" for table in browser.driver.execute_script(TABLES))
        if screenshots:
            browser.screenshot(screenshots / f"{name.removesuffix('.html').replace('/', '-')}-{size[0]}.png")
    yield from browser.complaints()


def faults_of_search(browser: Browser, root: str) -> Iterator[str]:
    """Yield the faults of the search."""
    browser.resize(DESKTOP)
    browser.open(f"{root}search.html?q={SEARCHED}")
    links = "return [...document.querySelectorAll('#search-results li a')].map((link) => link.href)"
    found = WebDriverWait(browser.driver, 30, ignored_exceptions=()).until(
        lambda driver: driver.execute_script(links), f"search for {SEARCHED} finds nothing"
    )
    if not any(SEARCHED in link for link in found):
        yield f"search for {SEARCHED} finds only {found}"
    yield from browser.complaints()


def main() -> int:
    """Print what is wrong; 1 if anything is."""
    parser = argparse.ArgumentParser(description="Check the built documentation in a browser.")
    parser.add_argument("site", type=Path, help="folder of the built site")
    parser.add_argument("--screenshots", type=Path, help="folder for a picture of each page, wide and as on a phone")
    parser.add_argument("--dark", action="store_true", help="show the dark theme")
    parser.add_argument("--only", default="", help="pages whose path holds this text")
    arguments = parser.parse_args()
    if arguments.screenshots:
        arguments.screenshots.mkdir(parents=True, exist_ok=True)
    site = arguments.site.resolve()
    faults = [*broken_links(site)]
    pages = [path.relative_to(site).as_posix() for path in sorted(site.rglob("*.html"))]
    pages = [page for page in pages if arguments.only in page and not page.startswith("_static/")]
    with served(site) as root, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(profile, dark=arguments.dark)
        try:
            for page in pages:
                # pages of source code have all been seen when one has
                folder = None if page.startswith("_modules/") else arguments.screenshots
                found = [f"{page}: {fault}" for fault in faults_of_page(browser, root + page, folder, page)]
                print("\n".join(found) or f"{page}: fine", flush=True)
                faults += found
            faults += faults_of_search(browser, root)
        finally:
            browser.driver.quit()
    print(f"\n{len(pages)} pages, {len(faults)} faults", *faults, sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
