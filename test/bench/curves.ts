// Curves as SVG: lines over a logarithmic number of EIPs, readable on a white and on a dark page.

export type Curve = { name: string; points: readonly (readonly [x: number, y: number])[] };

const WIDTH = 640;
const HEIGHT = 320;
const PLOT = { left: 64, top: 40, right: 470, bottom: 272 };
const COLOURS = ['#1f77b4', '#d62728', '#2ca02c', '#9467bd', '#8c564b', '#7f7f7f'];

export function svgOf(title: string, unit: string, curves: readonly Curve[]): string {
  const all = curves.flatMap(({ points }) => points);
  const [least, most] = [Math.min(...all.map(([x]) => x)), Math.max(...all.map(([x]) => x))];
  const top = niceTop(Math.max(...all.map(([, y]) => y)));
  const x = (value: number) =>
    PLOT.left + ((PLOT.right - PLOT.left) * Math.log(value / least)) / Math.log(Math.max(most / least, 1.001));
  const y = (value: number) => PLOT.bottom - ((PLOT.bottom - PLOT.top) * value) / top;
  const ticks = [...new Set(all.map(([x]) => x))].sort((a, b) => a - b);
  const lines = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" font-family="sans-serif" font-size="12">`,
    `<title>${title}</title>`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#ffffff"/>`,
    `<text x="${PLOT.left}" y="22" font-size="14" fill="#222">${title}</text>`,
    ...[0, 0.25, 0.5, 0.75, 1].map((part) => {
      const at = y(top * part).toFixed(1);
      return (
        `<line x1="${PLOT.left}" x2="${PLOT.right}" y1="${at}" y2="${at}" stroke="#ddd"/>` +
        `<text x="${PLOT.left - 6}" y="${Number(at) + 4}" text-anchor="end" fill="#555">${number(top * part)}</text>`
      );
    }),
    ...ticks.map(
      (tick) =>
        `<text x="${x(tick).toFixed(1)}" y="${PLOT.bottom + 18}" text-anchor="middle" fill="#555">${number(tick)}</text>`,
    ),
    `<text x="${(PLOT.left + PLOT.right) / 2}" y="${PLOT.bottom + 36}" text-anchor="middle" fill="#555">EIPs</text>`,
    `<text x="${PLOT.left - 6}" y="${PLOT.top - 8}" text-anchor="end" fill="#555">${unit}</text>`,
    ...curves.flatMap(({ name, points }, n) => {
      const colour = COLOURS[n % COLOURS.length];
      const path = points.map(([px, py]) => `${x(px).toFixed(1)},${y(py).toFixed(1)}`).join(' ');
      const legend = PLOT.top + 8 + n * 20;
      return [
        `<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="2"/>`,
        ...points.map(
          ([px, py]) => `<circle cx="${x(px).toFixed(1)}" cy="${y(py).toFixed(1)}" r="3" fill="${colour}"/>`,
        ),
        `<line x1="${PLOT.right + 16}" x2="${PLOT.right + 34}" y1="${legend}" y2="${legend}" stroke="${colour}" stroke-width="2"/>`,
        `<text x="${PLOT.right + 40}" y="${legend + 4}" fill="#222">${name}</text>`,
      ];
    }),
    '</svg>',
  ];
  return `${lines.join('\n')}\n`;
}

const number = (value: number): string => value.toLocaleString('en-US', { maximumFractionDigits: value < 10 ? 1 : 0 });

/** The least of 1, 2, 4, 5, 8, 10 times a power of ten that is not less. */
function niceTop(most: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(most, 1e-9)));
  return ([1, 2, 4, 5, 8, 10].find((step) => step * power >= most) ?? 10) * power;
}
