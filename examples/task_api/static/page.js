// A person's memories: what is known, what took the place of what, and how to be forgotten.
// What people said is only ever set as text, never as HTML.

const at = (id) => document.getElementById(id);
const STEP = 50; // memories that are shown at a time
const CATEGORIES = {
  preferences: "Preference", projects: "Project", task_patterns: "Learnt from tasks",
  interactions: "Done", notes: "Note",
};
let token = "";
let user = "";
let limit = STEP;
let last = Promise.resolve(); // what was asked for last: one thing at a time, in order
const asked = new Set();

class Refused extends Error {} // the token is not, or no longer, valid

async function call(method, path, body) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: { Authorization: `Bearer ${token}`, ...(body && { "Content-Type": "application/json" }) },
      body: body && JSON.stringify(body),
    });
  } catch {
    throw new Error("The server cannot be reached. Try again.");
  }
  const isJson = response.headers.get("Content-Type")?.startsWith("application/json");
  const answer = isJson ? await response.json() : null;
  if (response.status === 401) throw new Refused("This token is not valid, or no longer. Get a new one.");
  if (!response.ok && response.status !== 409) {
    const detail = answer?.detail ?? `The server failed (${response.status}).`;
    throw new Error(typeof detail === "string" ? detail : detail.map((part) => part.msg).join(" "));
  }
  return { status: response.status, answer };
}

function element(name, className, ...content) {
  const made = document.createElement(name);
  made.className = className;
  made.append(...content); // strings become text
  return made;
}

function time(text) {
  const made = element("time", "", new Date(text).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" }));
  made.dateTime = text;
  return made;
}

function counted(count, one, many) {
  return `${count} ${count === 1 ? one : many}`;
}

// What a memory said before, and what stood in its place before it; the oldest first.
function before(memory, history) {
  const ids = new Set([memory.id]);
  for (let size = 0; size < ids.size;) {
    size = ids.size;
    history.filter((change) => ids.has(change.superseded_by)).forEach((change) => ids.add(change.memory_id));
  }
  return history.filter((change) => ids.has(change.memory_id) && (
    (change.event === "SUPERSEDE" && change.memory_id !== memory.id)
    || (change.event === "UPDATE" && change.old_text !== change.new_text)
  ));
}

function shown(memory, history) {
  const item = element("li", "memory", element("p", "text", memory.text));
  const forget = element("button", "forget", "Forget");
  forget.setAttribute("aria-label", `Forget: ${memory.text}`);
  forget.addEventListener("click", () => tell(`forget ${memory.id}`, async () => {
    const place = [...at("memories").children].indexOf(item);
    await call("DELETE", `/memories/${memory.id}`);
    await show("Forgotten.");
    const next = at("memories").children[Math.min(place, at("memories").children.length - 1)];
    (next?.querySelector(".forget") ?? at("memories-title")).focus();
  }));
  const kind = CATEGORIES[memory.category] ?? memory.category ?? "Memory";
  const about = element("p", "about", kind, memory.category === "interactions" ? ", " : ", since ", time(memory.since));
  if (memory.until) about.append(", until ", time(memory.until));
  item.append(forget, about);
  const past = before(memory, history);
  if (past.length) {
    const list = element("ul", "past");
    list.append(...past.map((change) => element("li", "", element("s", "", change.old_text), " until ", time(change.at))));
    item.append(element("p", "about", "In the place of:"), list);
  }
  return item;
}

async function show(message) {
  const { answer: found } = await call("GET", `/memories?limit=${limit + 1}`); // one more tells whether there are more
  const memories = found.slice(0, limit);
  const histories = await Promise.all(memories.map((memory) => call("GET", `/memories/${memory.id}/history`)));
  at("memories").replaceChildren(...memories.map((memory, place) => shown(memory, histories[place].answer)));
  at("nothing").hidden = memories.length > 0;
  at("more").hidden = found.length <= limit || limit + STEP >= 1000;
  at("known").hidden = false;
  at("enter").hidden = true;
  at("status").textContent = message;
}

// Does what a person asked for, after what they asked for before, and tells what went wrong.
// What has the same name is done once, however often it is clicked meanwhile.
function tell(name, work) {
  if (asked.has(name)) return;
  asked.add(name);
  last = last.then(async () => {
    document.body.setAttribute("aria-busy", "true");
    at("status").textContent = at("problem").textContent = "";
    try {
      await work();
    } catch (error) {
      at("problem").textContent = error.message;
      if (error instanceof Refused || at("known").hidden) ask();
    } finally {
      asked.delete(name);
      document.body.removeAttribute("aria-busy");
    }
  });
}

// Ask who it is, and show nothing of anybody.
function ask() {
  token = "";
  at("memories").replaceChildren();
  at("question").hidden = true;
  at("known").hidden = true;
  at("enter").hidden = false;
  at("token").value = "";
  at("token").focus();
}

async function enter(given) {
  try {
    const claims = given.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    user = JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(claims), (letter) => letter.charCodeAt(0)))).sub;
  } catch {
    throw new Refused("This is no token.");
  }
  token = given;
  limit = STEP;
  await show("");
  at("text").focus();
}

async function say(text, confirm) {
  const path = confirm ? `/preferences?confirm=${encodeURIComponent(confirm)}` : "/preferences";
  const { status, answer } = await call("POST", path, { text });
  at("question").hidden = status !== 409;
  if (status === 409) {
    at("statement").textContent = text;
    at("contradicted").replaceChildren(...answer.contradicts.map((memory) => element("li", "", memory.text)));
    at("replace").onclick = () => tell("replace", () => say(text, answer.confirm));
    at("keep").focus(); // what changes nothing comes first to hand
    return;
  }
  if (at("text").value === text) at("text").value = ""; // else the next thing is being typed
  at("text").focus();
  await show(answer.understood ? "Remembered." : "Remembered as a note.");
}

function keep() {
  at("question").hidden = true;
  at("status").textContent = "Nothing was changed.";
  at("text").focus();
}

at("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  tell("enter", () => enter(at("token").value.trim()));
});
at("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = at("text").value;
  tell(`say ${text}`, () => say(text));
});
at("keep").addEventListener("click", keep);
at("question").addEventListener("keydown", (event) => {
  if (event.key === "Escape") keep();
});
at("more").addEventListener("click", () => tell("more", async () => {
  const first = limit;
  limit += STEP;
  await show("");
  at("memories").children[first]?.querySelector(".forget").focus();
}));
at("erase").addEventListener("click", () => {
  if (window.confirm("Erase your tasks, all memories and their history? Nothing can bring them back.")) {
    tell("erase", async () => {
      at("status").textContent = "Erasing…";
      const { answer } = await call("DELETE", `/users/${encodeURIComponent(user)}`);
      limit = STEP;
      at("question").hidden = true;
      const rest = answer.complete ? "" : " Those who run this server have a step left to do: they were told.";
      const count = `${counted(answer.memories, "memory", "memories")} and ${counted(answer.tasks, "task", "tasks")}`;
      await show(`Everything was erased: ${count}.${rest}`);
      at("memories-title").focus();
    });
  }
});

// The address that the token maker prints. The token leaves the address bar at once, and never the browser.
function enterByAddress() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!given) return false;
  history.replaceState(null, "", location.pathname);
  tell("enter", () => enter(given));
  return true;
}

window.addEventListener("hashchange", enterByAddress); // such an address, pasted into a page that is open
if (!enterByAddress()) ask();
