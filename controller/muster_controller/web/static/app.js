// Live pages without a framework: the server renders, one WebSocket per page says that something changed, the page is
// fetched again, and elements marked data-live are replaced by id. What a person is typing in is never replaced.

const pill = document.querySelector(".pill");
let socket = null;
let delay = 500; // milliseconds; grows while the server is away

function show(state, text) {
  if (pill) {
    pill.dataset.state = state;
    pill.textContent = text;
  }
}

// A table wider than its card scrolls. Then, and only then, the card is a named stop of the Tab key, so that the arrow
// keys reach what is hidden in every browser. Within some cards there is an element of its own that scrolls.
function reachScrolling() {
  for (const card of document.querySelectorAll(".card.flush:not(:has(.scroll)), pre")) {
    const hidden = card.scrollWidth > card.clientWidth;
    if (hidden === card.hasAttribute("tabindex")) continue;
    if (hidden) card.tabIndex = 0;
    else card.removeAttribute("tabindex");
    if (hidden && !card.matches("pre, [role]")) {
      card.dataset.named = "";
      card.setAttribute("role", "region");
      card.setAttribute("aria-label", (card.querySelector("h2") ?? document.querySelector("h1")).textContent);
    } else if (!hidden && "named" in card.dataset) {
      for (const one of ["data-named", "role", "aria-label"]) card.removeAttribute(one);
    }
  }
}

const served = new WeakMap(); // how the server wrote a live element, before anything here touched it
for (const one of document.querySelectorAll("[data-live]")) served.set(one, one.outerHTML);

async function replace() {
  const read = (answer) => (answer.ok && !answer.redirected ? answer.text() : "");
  const text = await fetch(location.href).then(read).catch(() => ""); // the server is away: the socket says so
  if (!text) return;
  const fresh = new DOMParser().parseFromString(text, "text/html");
  for (const old of document.querySelectorAll("[data-live]")) {
    const found = fresh.getElementById(old.id);
    const focused = old === document.activeElement;
    if (!found || found.outerHTML === served.get(old)) continue;
    if (old.querySelector("dialog[open]") || (old.contains(document.activeElement) && !focused)) continue;
    const next = document.importNode(found, true);
    served.set(next, next.outerHTML);
    // What a person has opened stays open, and what was scrolled to stays in sight.
    for (const one of old.querySelectorAll("details[id][open]")) next.querySelector(`#${one.id}`)?.setAttribute("open", "");
    const { scrollLeft } = old;
    old.replaceWith(next);
    next.scrollLeft = scrollLeft;
    reachScrolling();
    if (focused) next.focus({ preventScroll: true });
  }
}

// One at a time, so that no older answer replaces a newer one; what is heard meanwhile is asked for once more.
let wanted = false;
let replacing = false;
async function refresh() {
  wanted = true;
  if (replacing) return;
  replacing = true;
  try {
    while (wanted) {
      wanted = false;
      await replace();
    }
  } finally {
    replacing = false;
  }
}

function connect() {
  if (document.hidden || socket || !document.querySelector("[data-live]")) return;
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  socket = new WebSocket(`${scheme}://${location.host}/live`);
  socket.onopen = () => {
    delay = 500;
    show("live", "live");
  };
  socket.onmessage = refresh;
  socket.onclose = (closed) => {
    socket = null;
    if (closed.code === 4401) location.assign("/login");
    else if (!document.hidden) {
      show("lost", "reconnecting");
      setTimeout(connect, delay);
      delay = Math.min(delay * 2, 10000);
    }
  };
}

// A hidden tab costs the server nothing.
document.addEventListener("visibilitychange", () => {
  if (document.hidden && socket) socket.close();
  else connect();
});

// The theme: the system's, or what was chosen here.
const chosen = localStorage.getItem("theme");
if (chosen) document.documentElement.dataset.theme = chosen;
document.addEventListener("click", (event) => {
  if (!event.target.closest("[data-toggle-theme]")) return;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme || (dark ? "dark" : "light");
  document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
  localStorage.setItem("theme", document.documentElement.dataset.theme);
});

// Buttons open and close their dialogs by themselves, but in browsers from before 2026.
if (!("commandForElement" in HTMLButtonElement.prototype)) {
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[commandfor]");
    const dialog = document.getElementById(button?.getAttribute("commandfor"));
    if (button?.getAttribute("command") === "close") dialog?.close();
    else dialog?.showModal();
  });
}

// What a form in a dialog answers with may be a file: then the page stays, and the dialog has done its work.
document.addEventListener("submit", (event) => event.target.closest("dialog")?.close());

document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName);
  const search = document.querySelector("input[type=search]");
  if (event.key === "/" && !typing && search) {
    event.preventDefault();
    search.focus();
  }
});

// A cohort is counted while its selector is typed.
let timer = 0;
document.addEventListener("input", (event) => {
  const target = event.target.closest("[data-count]");
  if (!target) return;
  clearTimeout(timer);
  timer = setTimeout(async () => {
    const answer = await fetch(`/cohort-count?where=${encodeURIComponent(target.value)}`);
    document.getElementById(target.dataset.count).textContent = await answer.text();
  }, 250);
});

// A plan is previewed while it is typed; the server makes the form and its file say the same.
const plan = document.querySelector("form[data-preview]");
let asked = 0; // only the newest answer counts
let side = plan?.elements.mode.value; // on which was typed last: that one counts, whichever is looked at
async function preview() {
  const turn = ++asked;
  const typed = new URLSearchParams(new FormData(plan));
  typed.set("mode", side);
  const answer = await fetch("/rollouts/preview", { method: "POST", body: typed });
  if (!answer.ok || answer.redirected) return;
  const { html, file, values, problem } = await answer.json();
  if (turn !== asked) return;
  document.getElementById(plan.dataset.preview).innerHTML = html;
  reachScrolling();
  if (problem) return; // what was typed stays as it is, on both sides
  if (typed.get("mode") === "form") plan.elements.file.value = file;
  else for (const input of plan.querySelectorAll(".as-form [name]")) input.value = values[input.name] ?? "";
}
let typing = 0;
plan?.addEventListener("input", (event) => {
  if (event.target.name === "reason" || event.target.name === "mode") return;
  side = event.target.name === "file" ? "file" : "form";
  clearTimeout(typing);
  typing = setTimeout(preview, 350);
});
plan?.addEventListener("submit", () => (plan.elements.mode.value = side));

reachScrolling();
addEventListener("resize", reachScrolling);
addEventListener("toggle", reachScrolling, true); // what was folded away may be wider than its card
connect();
