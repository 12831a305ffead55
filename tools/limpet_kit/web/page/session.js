// The session with the page's own server: who is logged in, and the token that each POST shows.

let token = "";

async function ask(path, body) {
  const options = { credentials: "same-origin", cache: "no-store" };
  if (body !== undefined) {
    options.method = "POST";
    options.headers = { "Content-Type": "application/json", "X-Limpet-Token": token };
    options.body = JSON.stringify(body);
  }
  const answer = await fetch(path, options);
  const said = await answer.json();
  if (!answer.ok) throw new Error(String(said.error || answer.status));
  token = said.token;
  return said;
}

/** {person, devices: [{name, ledger, alert, machine, online}], running}; without `person`: nobody. */
export const look = () => ask("/session");

/** The same after a log-in; throws an Error with words for the person. */
export const login = (name, password) => ask("/login", { name, password });

export const logout = () => ask("/logout", {});
