// Small comforts for our pages.  Everything works without this file: it only ever adds to what the server has sent.
"use strict";

/** A button that shows a password, and hides it again before it is sent. */
function revealPasswords() {
  for (const button of document.querySelectorAll("[data-reveal]")) {
    const input = document.getElementById(button.dataset.reveal);
    const [text, label] = [button.textContent, button.getAttribute("aria-label")];
    const show = (shown) => {
      input.type = shown ? "text" : "password";
      button.textContent = shown ? button.dataset.hide : text;
      button.setAttribute("aria-label", shown ? button.dataset.hideLabel : label);
    };
    button.hidden = false;
    button.addEventListener("click", () => {
      show(input.type === "password");
      input.focus();
    });
    // Browsers offer to remember what a password field sends, and autocomplete what a text field does.
    input.form.addEventListener("submit", () => show(false));
  }
}

/** A hint while Caps Lock is on. */
function watchCapsLock() {
  for (const input of document.querySelectorAll("[data-caps]")) {
    const hint = document.getElementById(input.dataset.caps);
    const look = (event) => {
      const isOn = Boolean(event.getModifierState && event.getModifierState("CapsLock"));
      if (isOn !== (hint.textContent !== "")) hint.textContent = isOn ? hint.dataset.text : "";
    };
    input.addEventListener("keydown", look);
    input.addEventListener("keyup", look);
    input.addEventListener("blur", () => (hint.textContent = ""));
  }
}

/** A button says that its form is on its way, and is not pressed twice. */
function showPending() {
  document.addEventListener("submit", (event) => {
    if (event.defaultPrevented) return;
    if (event.target.dataset.sent) {
      event.preventDefault();
      return;
    }
    event.target.dataset.sent = "yes";
    const button = event.submitter || event.target.querySelector("button:not([type=button])");
    if (!button || !button.dataset.pending) return;
    button.dataset.label = button.textContent;
    button.textContent = button.dataset.pending;
    button.setAttribute("aria-busy", "true");
  });
  // Back from the next page, the browser may show this one as it was left.
  window.addEventListener("pageshow", () => {
    for (const form of document.forms) delete form.dataset.sent;
    for (const button of document.querySelectorAll("[aria-busy]")) {
      button.textContent = button.dataset.label;
      button.removeAttribute("aria-busy");
    }
  });
}

/** The part of the address after # goes along with signing in, and back again. */
function keepFragment() {
  if (location.hash.length < 2) return;
  for (const form of document.querySelectorAll("[data-keep-fragment]")) {
    const target = form.elements.namedItem("callbackUrl");
    if (!target.value.includes("#")) target.value += location.hash;
  }
}

/** The page that only passes on: at once, with what only the browser knows of the address. */
function carryFragment() {
  const link = document.querySelector("[data-carry-fragment]");
  if (!link) return;
  const hash = location.hash.length > 1 ? encodeURIComponent(location.hash) : "";
  location.replace(link.getAttribute("href") + hash);
}

/** Dates in the visitor's own time zone. */
function showLocalTimes(root) {
  const format = new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });
  for (const time of root.querySelectorAll("time[datetime]")) {
    time.title = time.textContent;
    time.textContent = format.format(new Date(time.dateTime));
  }
}

/** The list of devices as it is now, whenever the visitor comes back to the page. */
function refreshOnFocus() {
  const list = document.querySelector("[data-refresh]");
  if (!list) return;
  let isAsking = false;
  const refresh = async () => {
    const shown = document.getElementById(list.id);
    if (document.visibilityState !== "visible" || isAsking || shown.querySelector("[data-sent]")) return;
    isAsking = true;
    try {
      const answer = await fetch(location.pathname, { headers: { Accept: "text/html" }, redirect: "manual" });
      if (answer.type === "opaqueredirect") {
        location.reload(); // nobody is signed in here any more
      } else if (answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const fresh = page.getElementById(list.id);
        if (fresh && !shown.contains(document.activeElement)) {
          showLocalTimes(fresh);
          if (fresh.textContent !== shown.textContent) shown.replaceWith(document.adoptNode(fresh));
        }
      }
    } catch {
      // Without a network the page stays as it is.
    } finally {
      isAsking = false;
    }
  };
  document.addEventListener("visibilitychange", refresh);
  window.addEventListener("focus", refresh);
}

carryFragment();
revealPasswords();
watchCapsLock();
showPending();
keepFragment();
showLocalTimes(document);
refreshOnFocus();
