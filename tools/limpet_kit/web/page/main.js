// The page: who is logged in, the devices of that person, and the link between them.

import { Device, text } from "./device.js";
import * as guard from "./guard.js";
import { open } from "./link.js";
import * as session from "./session.js";

const form = document.getElementById("login");
const list = document.getElementById("devices");
const status = document.getElementById("link");
const leave = document.getElementById("logout");
const empty = document.getElementById("empty");

let link = null;

function logIn(words = "") {
  link?.close();
  link = null;
  guard.end();
  list.replaceChildren();
  for (const element of [list, leave, empty]) element.hidden = true;
  form.hidden = false;
  form.querySelector(".error").textContent = words;
  status.textContent = "";
  form.elements.name.focus();
}

function show({ person, devices }) {
  form.hidden = true;
  form.reset();
  form.querySelector(".error").textContent = "";
  leave.hidden = false;
  list.hidden = false;
  empty.hidden = devices.length > 0;
  const shown = new Map();
  for (const told of devices) {
    const device = new Device(told, (how, name, payload) => {
      const middle = how === "from" ? `from/${person}` : "cmd";
      link?.publish(`limpet/${told.name}/${middle}/${name}`, payload);
    });
    shown.set(told.name, device);
    list.append(device.element);
  }
  const filters = devices.flatMap(({ name }) => [
    `limpet/${name}/state`,
    `limpet/${name}/up/+`,
    `limpet/${person}/from/${name}/+`,
  ]);
  link = open(filters, {
    heard(topic, bytes, { retain }) {
      const [, owner, branch, name, last] = topic.split("/");
      if (branch === "state") shown.get(owner)?.state(bytes, retain);
      else if (branch === "up") shown.get(owner)?.value(name, bytes);
      else if (branch === "from") shown.get(name)?.reply(`${last}: ${text(bytes)}`);
    },
    said(words, online) {
      status.textContent = online ? `${person}, connected` : words;
      list.classList.toggle("away", !online);
      for (const button of list.querySelectorAll("button")) button.disabled = !online;
    },
    lasts,
  });
  guard.begin();
}

/** Whether somebody is logged in still; if not, the page says so. */
async function lasts() {
  try {
    if ((await session.look()).person) return true;
  } catch {
    return true; // the page's server is away: it will tell when it is back
  }
  logIn("You were logged out.");
  return false;
}

async function begin() {
  try {
    const seen = await session.look();
    if (seen.person) show(seen);
    else logIn();
  } catch (error) {
    logIn(error.message);
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    show(await session.login(form.elements.name.value, form.elements.password.value));
  } catch (error) {
    form.querySelector(".error").textContent = error.message;
    form.elements.password.value = "";
    form.elements.password.focus();
  }
  button.disabled = false;
});

leave.addEventListener("click", async () => {
  link?.close(); // or its end, which the log-out brings, would have the last word
  await session.logout().catch(() => {});
  logIn("You are logged out.");
});

begin();
