// One device on the page. All that comes from it is text, set by textContent alone.

import { add } from "./plot.js";

const VALUES = 12; // that are shown of one device
const REPLIES = 20;
const LONGEST = 200; // characters of one value

const template = document.getElementById("device");
const valueTemplate = document.getElementById("value");
const decoder = new TextDecoder();

/** Bytes of a device as text: bounded, without control characters. */
export function text(bytes) {
  const whole = decoder.decode(bytes.subarray(0, 4 * LONGEST));
  const clean = whole.replace(/[\p{C}]/gu, "\u00b7");
  return clean.length > LONGEST ? `${clean.slice(0, LONGEST)}\u2026` : clean;
}

export class Device {
  /** `told` is what the server says of it; `send(how, name, text)` publishes to it. */
  constructor(told, send) {
    this.name = told.name;
    this.values = new Map();
    this.pinged = 0;
    this.element = template.content.firstElementChild.cloneNode(true);
    this.find(".name").textContent = told.name;
    this.find(".name").title = told.machine;
    this.show(told.ledger === "ACTIVE" ? "not heard of yet" : `ledger: ${told.ledger}`, "");
    this.online = told.online; // null where the retained state alone can tell
    if (this.online !== null) {
      const state = this.online ? "online" : "offline";
      this.show(state, state);
    }
    this.find(".alert").textContent = told.alert;
    this.find(".alert").hidden = !told.alert;
    for (const button of this.element.querySelectorAll("[data-command]")) {
      button.setAttribute("aria-label", `${button.textContent}, ${told.name}`);
      button.addEventListener("click", () => this.press(button.dataset, send));
    }
    this.find(".send").addEventListener("submit", (event) => {
      event.preventDefault();
      const { how, topic, payload } = event.target.elements;
      send(how.value, topic.value, payload.value);
      this.reply(`sent ${topic.value}: ${payload.value}`);
    });
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  press({ command, payload }, send) {
    if (command === "ping") {
      this.pinged = performance.now();
      this.find(".answer").textContent = "\u2026";
    }
    send("cmd", command, payload ?? `page-${Math.round(this.pinged)}`);
  }

  show(words, state) {
    const line = this.find(".state");
    line.textContent = words;
    line.className = `state ${state}`;
  }

  /** The state: JSON of the device, or of its will. What is retained may be an old one, where the
   * broker is several machines. */
  state(bytes, retained) {
    let said = {};
    try {
      said = JSON.parse(decoder.decode(bytes)) || {};
    } catch {
      // not JSON: nothing is known
    }
    if (retained && this.online !== null && this.online !== (said.state === "online")) return;
    if (said.state === "online") {
      const since = said.distrusted ? `; before, it refused a false server (${said.distrusted})` : "";
      this.show(`online${since}`.slice(0, LONGEST), "online");
    } else if (bytes.length) {
      this.show(`offline${said.cause ? `: ${said.cause}` : ""}`.slice(0, LONGEST), "offline");
    } else {
      this.show("not heard of", "");
    }
  }

  /** A reading, or an answer to a command. */
  value(name, bytes) {
    const shown = text(bytes);
    if (name === "ping" && this.pinged) {
      const ms = performance.now() - this.pinged;
      this.pinged = 0;
      this.find(".answer").textContent = `answered in ${ms.toFixed(0)} ms`;
      this.element.dataset.latency = ms.toFixed(1);
      return;
    }
    const row = this.values.get(name) || this.row(name);
    if (!row) return;
    row.element.querySelector(".now").textContent = shown;
    const number = Number(shown);
    if (shown.trim() && Number.isFinite(number)) {
      add(row.history, number, row.element.querySelector("polyline"));
    }
  }

  row(name) {
    if (this.values.size >= VALUES) return null;
    const element = valueTemplate.content.firstElementChild.cloneNode(true);
    element.querySelector(".label").textContent = name.slice(0, 64);
    element.dataset.value = name;
    this.find(".values").append(element);
    const row = { element, history: [] };
    this.values.set(name, row);
    return row;
  }

  /** Something for the person alone. */
  reply(words) {
    const line = document.createElement("li");
    line.textContent = words;
    const list = this.find(".replies");
    list.prepend(line);
    while (list.children.length > REPLIES) list.lastChild.remove();
  }
}
