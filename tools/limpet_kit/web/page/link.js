// The link to the broker, through this page's server: MQTT 3.1.1 in a WebSocket.

import mqtt from "./mqtt.esm.js";

// The close codes of bridge.py that need words; 4001 is the end of the session.
const WORDS = {
  4002: "Too many windows of this log-in are open: close one.",
  4003: "This page sent too much.",
  4004: "The broker cannot be reached.",
  4005: "The broker's link was not understood.",
};
const RETRY_MS = 2000;

/**
 * Connect, and stay connected. `filters` are subscribed to after each login; `heard(topic, bytes,
 * packet)` gets each message, `said(words, online)` the state of the link. When it ends, `lasts()` is asked
 * whether the session does; if not, that was all. The result has `publish(topic, text)` and `close()`.
 */
export function open(filters, { heard, said, lasts }) {
  const where = `wss://${location.host}/link`;
  let code = 0;
  const client = mqtt.connect(where, {
    protocolVersion: 4,
    keepalive: 30,
    reconnectPeriod: RETRY_MS,
    connectTimeout: 15000,
    timerVariant: "native", // the other one makes a worker from text, which the policy forbids
    clientId: "page",
    queueQoSZero: false,
    createWebsocket(url) {
      const socket = new WebSocket(url, ["mqtt"]);
      socket.binaryType = "arraybuffer";
      socket.addEventListener("close", (event) => (code = event.code));
      return socket;
    },
  });
  client.on("connect", () => {
    client.subscribe(filters, { qos: 0 });
    said("online", true);
  });
  client.on("message", heard);
  client.on("close", async () => {
    if (client.disconnecting) return;
    said(WORDS[code] || "Not connected; trying again.", false);
    if (!(await lasts())) client.end(true);
  });
  client.on("error", () => {}); // "close" follows and says it
  return {
    publish: (topic, text) => client.publish(topic, text, { qos: 0 }),
    close: () => client.end(true),
  };
}
