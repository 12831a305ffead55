// The last readings of one value as a line.

const KEPT = 60;

/** Add a number to `history` (an array), and draw it into an SVG polyline of 120 by 28. */
export function add(history, number, line) {
  history.push(number);
  if (history.length > KEPT) history.shift();
  const low = Math.min(...history);
  const span = Math.max(...history) - low || 1;
  const step = 120 / Math.max(1, history.length - 1);
  const points = history.map(
    (value, at) => `${(at * step).toFixed(1)},${(26 - (24 * (value - low)) / span).toFixed(1)}`,
  );
  line.setAttribute("points", points.join(" "));
}
