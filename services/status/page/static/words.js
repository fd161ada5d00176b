// Figures in words, as the server writes them: binary units, two units of time.
const units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

export function size(bytes) {
  if (bytes < 1024) return bytes === 1 ? "1 byte" : `${bytes} bytes`;
  let value = bytes / 1024;
  let unit = 0;
  while (Math.round(value * 10) / 10 >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value.toFixed(1).replace(/\.0$/, "")} ${units[unit]}`;
}

export function duration(seconds) {
  const left = Math.max(0, Math.round(seconds));
  if (left < 60) return `${left} s`;
  const two = (large, unit, small, smaller) => `${large} ${unit}${small ? ` ${small} ${smaller}` : ""}`;
  if (left < 3600) return two(Math.floor(left / 60), "min", left % 60, "s");
  if (left < 86400) return two(Math.floor(left / 3600), "h", Math.floor((left % 3600) / 60), "min");
  return two(Math.floor(left / 86400), "d", Math.floor((left % 86400) / 3600), "h");
}

export const count = (number) => number.toLocaleString("en");
