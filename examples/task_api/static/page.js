// A person's memories: what is known, what took the place of what, and how to be forgotten.
// What people said is only ever set as text, never as HTML.

const at = (id) => document.getElementById(id);
let token = "";
let user = "";

async function call(method, path, body) {
  const response = await fetch(path, {
    method,
    headers: { Authorization: `Bearer ${token}`, ...(body && { "Content-Type": "application/json" }) },
    body: body && JSON.stringify(body),
  });
  const isJson = response.headers.get("Content-Type")?.startsWith("application/json");
  const answer = isJson ? await response.json() : null;
  if (!response.ok && response.status !== 409) {
    const detail = answer?.detail ?? `The server failed (${response.status}).`;
    throw new Error(typeof detail === "string" ? detail : detail.map((part) => part.msg).join(" "));
  }
  return { status: response.status, answer };
}

function element(name, className, text) {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

function day(text) {
  return new Date(text).toLocaleString();
}

// The texts that a memory took the place of, oldest first.
function replaced(memory, history) {
  const texts = history.map((change) => change.old_text).filter((text) => text && text !== memory.text);
  return [...new Set(texts)];
}

function shown(memory, history) {
  const item = element("li", "memory", "");
  item.append(element("span", "text", memory.text));
  const forget = element("button", "forget", "Forget");
  forget.setAttribute("aria-label", `Forget: ${memory.text}`);
  forget.addEventListener("click", () => tell(async () => {
    await call("DELETE", `/memories/${memory.id}`);
    await show("Forgotten.");
  }));
  item.append(forget);
  item.append(element("p", "about", `${memory.category ?? "memory"}, since ${day(memory.since)}`));
  const before = replaced(memory, history);
  if (before.length) {
    item.append(element("p", "about", "In the place of:"));
    const list = element("ul", "past", "");
    list.append(...before.map((text) => element("li", "", text)));
    item.append(list);
  }
  return item;
}

async function show(message) {
  const { answer: memories } = await call("GET", "/memories");
  const histories = await Promise.all(memories.map((memory) => call("GET", `/memories/${memory.id}/history`)));
  at("memories").replaceChildren(...memories.map((memory, place) => shown(memory, histories[place].answer)));
  at("nothing").hidden = memories.length > 0;
  at("known").hidden = false;
  at("enter").hidden = true;
  at("status").textContent = message;
}

async function tell(work) {
  try {
    await work();
  } catch (error) {
    at("status").textContent = error.message;
  }
}

async function enter(given) {
  token = given;
  user = JSON.parse(new TextDecoder().decode(Uint8Array.from(
    atob(given.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0),
  ))).sub;
  await show("");
}

async function say(text, confirm) {
  const path = confirm ? `/preferences?confirm=${encodeURIComponent(confirm)}` : "/preferences";
  const { status, answer } = await call("POST", path, { text });
  at("question").hidden = status !== 409;
  if (status === 409) {
    at("contradicted").replaceChildren(...answer.contradicts.map((memory) => element("li", "", memory.text)));
    at("replace").onclick = () => tell(() => say(text, answer.confirm));
    at("replace").focus();
    return;
  }
  at("text").value = "";
  await show(answer.understood ? "Remembered." : "Remembered as a note.");
}

at("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  tell(() => enter(at("token").value.trim()));
});
at("say").addEventListener("submit", (event) => {
  event.preventDefault();
  tell(() => say(at("text").value));
});
at("keep").addEventListener("click", () => {
  at("question").hidden = true;
  at("status").textContent = "Nothing was changed.";
});
at("erase").addEventListener("click", () => {
  if (window.confirm("Erase your tasks, all memories and their history? Nothing can bring them back.")) {
    tell(async () => {
      at("status").textContent = "Erasing…";
      await call("DELETE", `/users/${encodeURIComponent(user)}`);
      await show("Everything was erased.");
    });
  }
});

// The address that the token maker prints. The token leaves the address bar at once, and never the browser.
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  history.replaceState(null, "", location.pathname);
  tell(() => enter(given));
}
