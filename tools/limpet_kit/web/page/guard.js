// What the guard told last: banned and spared addresses, cloned devices. Text, the latest first.

const EVERY_MS = 5000;
const section = document.getElementById("guard");
const list = section.querySelector("ol");
const template = document.getElementById("told");

let timer = null;
let shown = "";

function line({ at, what, words }) {
  const item = template.content.cloneNode(true).firstElementChild;
  const time = item.querySelector("time");
  time.dateTime = at;
  time.textContent = new Date(at).toLocaleString();
  item.dataset.what = what;
  item.querySelector(".words").textContent = words;
  return item;
}

async function look() {
  let told;
  try {
    const answer = await fetch("/alerts", { credentials: "same-origin", cache: "no-store" });
    if (!answer.ok) return;
    told = (await answer.json()).alerts;
  } catch {
    return; // the page's server is away
  }
  const now = JSON.stringify(told);
  if (timer === null || now === shown) return; // logged out meanwhile, or nothing new
  shown = now;
  list.replaceChildren(...told.reverse().map(line));
  section.hidden = told.length === 0;
}

/** Show it from now on, until `end`. */
export function begin() {
  end();
  timer = setInterval(look, EVERY_MS);
  look();
}

export function end() {
  clearInterval(timer);
  timer = null;
  shown = "";
  list.replaceChildren();
  section.hidden = true;
}
