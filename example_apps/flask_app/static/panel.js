// Asks the pool for its numbers once a second (faster while something is going on) and draws them.
const panel = document.getElementById("panel");
const past = JSON.parse(sessionStorage.getItem("pool") || "[]"); // [time, in use, waiting], oldest first
const SHOWN = 60000; // milliseconds
let before = 0;

function path(index, top, closed) {
  const now = past.at(-1)[0];
  const x = (sample) => (240 - ((now - sample[0]) / SHOWN) * 240).toFixed(1);
  const line = past.map((sample) => `${x(sample)} ${(54 - (52 * sample[index]) / top).toFixed(1)}`).join(" L");
  return closed ? `M${line} L240 56 L${x(past[0])} 56 Z` : `M${line}`;
}

function draw(now) {
  const states = ["in_use", "idle", "connecting"].flatMap((state) => Array(now[state]).fill(state));
  const slots = document.getElementById("slots");
  while (slots.children.length < now.maxsize) slots.append(document.createElement("i"));
  [...slots.children].forEach((slot, i) => { slot.className = states[i] || ""; });
  slots.setAttribute("aria-label", `${now.in_use} in use, ${now.idle} idle, ${now.connecting} connecting, of ${now.maxsize}`);
  const queue = document.getElementById("queue");
  queue.setAttribute("aria-label", `${now.waiting} visitors wait for a connection`);
  queue.replaceChildren(...Array.from({ length: Math.min(now.waiting, 60) }, () => document.createElement("i")));
  for (const cell of panel.querySelectorAll("[data-key]")) {
    const value = now[cell.dataset.key];
    cell.textContent = typeof value === "object"
      ? Object.entries(value).map(([reason, number]) => `${number} ${reason}`).join(", ") || "none"
      : value.toLocaleString("en");
  }
  past.push([Date.now(), now.in_use, now.waiting]);
  while (Date.now() - past[0][0] > SHOWN) past.shift();
  sessionStorage.setItem("pool", JSON.stringify(past));
  const top = Math.max(now.maxsize, ...past.map(([, used, waiting]) => Math.max(used, waiting)));
  document.getElementById("chart-use").setAttribute("d", path(1, top, false));
  document.getElementById("chart-waiting").setAttribute("d", path(2, top, true));
}

function say(answers) {
  const dot = document.getElementById("dot");
  dot.className = answers ? "dot on" : "dot off";
  const text = answers ? "answers" : "no answer";
  if (dot.textContent !== text) dot.textContent = text; // else a screen reader would say it each second
}

async function look() {
  let busy = false;
  try {
    const now = await (await fetch(panel.dataset.url)).json();
    busy = now.waiting > 0 || now.in_use > 0 || now.borrowed !== before;
    before = now.borrowed;
    draw(now);
    say(true);
  } catch {
    say(false);
  }
  setTimeout(look, busy ? 250 : 1000);
}

for (const button of document.querySelectorAll("[data-post]")) {
  button.addEventListener("click", async () => {
    const said = document.getElementById("said");
    try {
      const answer = await (await fetch(button.dataset.post, { method: "POST" })).json();
      said.textContent = "visitors" in answer
        ? `${answer.visitors} visitors want a connection at once. They wait in order of arrival.`
        : `${answer.cut} sessions were ended on the server. The next visitor gets a new one and sees no error.`;
    } catch {
      said.textContent = "No answer. Is the board still running?";
    }
  });
}
look();
