// Draws models × nodes on one canvas. Knows no network and no page: who uses it hands cells in and asks what is where.
//
// Each cell is one pixel of a small hidden canvas, which one call stretches over the visible part. So a frame costs the
// same for a hundred cells and for a hundred thousand; only what is large enough to have details is drawn by itself.
const SIZES = [2, 4, 7, 11, 16, 22];
const RULER = 26;
const DETAILED = 7;

export class Matrix {
  constructor(box, canvas, extent) {
    this.box = box;
    this.canvas = canvas;
    this.extent = extent;
    this.context = canvas.getContext("2d", { alpha: false });
    this.pixels = document.createElement("canvas");
    this.size = 4;
    this.models = [];
    this.nodes = [];
    this.cells = [];
    this.codes = {};
    this.rows = [];
    this.columns = [];
    this.row = 0;
    this.column = 0;
    this.hovered = null;
    this.frames = 0;
    this.frameMilliseconds = 0;
    this.readColours();
    new ResizeObserver(() => this.draw()).observe(box);
    box.addEventListener("scroll", () => this.draw(), { passive: true });
  }

  get cell() {
    return SIZES[this.size];
  }

  get height() {
    return Math.max(this.cell, 14);
  }

  get gutter() {
    return this.box.clientWidth < 600 ? 124 : 268;
  }

  readColours() {
    const style = getComputedStyle(document.documentElement);
    const token = (name) => style.getPropertyValue(`--${name}`).trim();
    this.colours = Object.fromEntries(
      ["surface", "sunken", "line", "line-strong", "ink", "ink-soft", "ink-faint", "focus", "ready", "moving", "moving-pale",
        "failed", "waiting", "unreachable", "leftover", "evicted"].map((name) => [name, token(name)]),
    );
    this.font = `12px ${token("font")}`;
    this.strongFont = `600 12px ${token("font")}`;
    this.palette = null;
  }

  // All models with their cells, one byte each, and the nodes. What is chosen stays chosen, by name.
  show(models, nodes, cells, codes) {
    const [model, node] = [this.models[this.rows[this.row]]?.key, this.nodes[this.columns[this.column]]];
    Object.assign(this, { models, nodes, cells, codes });
    this.palette = null;
    this.select(models.map((_, number) => number), nodes.map((_, number) => number));
    this.row = Math.max(0, this.rows.findIndex((number) => models[number].key === model));
    this.column = Math.max(0, this.columns.findIndex((number) => nodes[number] === node));
    this.draw();
  }

  // The rows and columns to show, by number.
  select(rows, columns) {
    const [row, column] = [this.rows[this.row], this.columns[this.column]];
    this.rows = rows;
    this.columns = columns;
    this.rowOf = new Int32Array(this.models.length).fill(-1);
    this.columnOf = new Int32Array(this.nodes.length).fill(-1);
    rows.forEach((number, place) => (this.rowOf[number] = place));
    columns.forEach((number, place) => (this.columnOf[number] = place));
    this.row = Math.max(0, rows.indexOf(row));
    this.column = Math.max(0, columns.indexOf(column));
    this.paintAll();
    this.draw();
  }

  // Change one cell.
  set(row, column, code) {
    this.cells[row][column] = code;
    if (this.rowOf[row] >= 0 && this.columnOf[column] >= 0) {
      this.words[this.rowOf[row] * this.columns.length + this.columnOf[column]] = this.colourOf(code);
      this.stale = true;
    }
  }

  setRow(row, cells) {
    for (let column = 0; column < cells.length; column += 1) {
      if (this.cells[row][column] !== cells[column]) this.set(row, column, cells[column]);
    }
  }

  isMoving(code) {
    return code >= this.codes.moving && code < this.codes.waiting;
  }

  nameOf(code) {
    if (!code) return "nothing";
    if (this.isMoving(code)) return "moving";
    return Object.keys(this.codes).find((name) => this.codes[name] === code);
  }

  colourOf(code) {
    if (!this.palette) this.mix();
    return this.palette[code];
  }

  mix() {
    const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const bytes = (colour) => {
      probe.fillStyle = colour;
      probe.fillRect(0, 0, 1, 1);
      return probe.getImageData(0, 0, 1, 1).data;
    };
    // As a canvas lays bytes out in memory.
    const word = (data) => (255 << 24) | (data[2] << 16) | (data[1] << 8) | data[0];
    this.palette = new Int32Array(256).fill(word(bytes(this.colours.surface)));
    this.palette[0] = word(bytes(this.colours.sunken));
    for (const [name, code] of Object.entries(this.codes)) {
      if (name !== "moving") this.palette[code] = word(bytes(this.colours[name]));
    }
    const [pale, full] = [bytes(this.colours["moving-pale"]), bytes(this.colours.moving)];
    for (let percent = 0; percent <= 100; percent += 1) {
      const share = 0.25 + (0.75 * percent) / 100;
      this.palette[this.codes.moving + percent] = word([0, 1, 2].map((at) => pale[at] + (full[at] - pale[at]) * share));
    }
    this.paleWord = word(pale);
  }

  paintAll() {
    const [width, height] = [Math.max(1, this.columns.length), Math.max(1, this.rows.length)];
    this.pixels.width = width;
    this.pixels.height = height;
    this.pixelContext = this.pixels.getContext("2d");
    this.image = this.pixelContext.createImageData(width, height);
    this.words = new Int32Array(this.image.data.buffer);
    this.rows.forEach((row, place) => {
      const cells = this.cells[row];
      for (let column = 0; column < this.columns.length; column += 1) {
        this.words[place * width + column] = this.colourOf(cells[this.columns[column]]);
      }
    });
    this.stale = true;
  }

  repaint() {
    this.readColours();
    this.paintAll();
    this.draw();
  }

  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      const started = performance.now();
      this.frame();
      this.frameMilliseconds = performance.now() - started;
      this.frames += 1;
    });
  }

  frame() {
    const { box, canvas, context, cell, height, gutter, colours } = this;
    const [width, tall, ratio] = [box.clientWidth, box.clientHeight, devicePixelRatio || 1];
    if (!width || !tall) return;
    const [pixelsWide, pixelsTall] = [Math.round(width * ratio), Math.round(tall * ratio)];
    if (canvas.width !== pixelsWide || canvas.height !== pixelsTall) {
      canvas.width = pixelsWide;
      canvas.height = pixelsTall;
      canvas.style.width = `${width}px`;
      canvas.style.height = `${tall}px`;
    }
    const extent = `${gutter + this.columns.length * cell + 24}px ${RULER + this.rows.length * height + 8}px`;
    if (this.extentIs !== extent) {
      this.extentIs = extent;
      [this.extent.style.width, this.extent.style.height] = extent.split(" ");
    }
    if (this.stale) {
      this.pixelContext.putImageData(this.image, 0, 0);
      this.stale = false;
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = colours.surface;
    context.fillRect(0, 0, width, tall);
    const [left, top] = [box.scrollLeft, box.scrollTop];
    const firstColumn = Math.floor(left / cell);
    const lastColumn = Math.min(this.columns.length, Math.ceil((left + width - gutter) / cell));
    const firstRow = Math.floor(top / height);
    const lastRow = Math.min(this.rows.length, Math.ceil((top + tall - RULER) / height));
    const view = { firstColumn, lastColumn, firstRow, lastRow, x: gutter - left, y: RULER - top, width, tall };
    if (lastColumn > firstColumn && lastRow > firstRow) this.drawCells(view);
    this.drawNames(view);
    this.drawRuler(view);
  }

  drawCells({ firstColumn, lastColumn, firstRow, lastRow, x, y, width, tall }) {
    const { context, cell, height, colours, gutter } = this;
    const [wide, high] = [lastColumn - firstColumn, lastRow - firstRow];
    context.save();
    context.beginPath();
    context.rect(gutter, RULER, width - gutter, tall - RULER);
    context.clip();
    context.imageSmoothingEnabled = false;
    context.drawImage(
      this.pixels, firstColumn, firstRow, wide, high,
      x + firstColumn * cell, y + firstRow * height, wide * cell, high * height,
    );
    if (cell >= DETAILED) this.drawDetails(firstColumn, lastColumn, firstRow, lastRow, x, y);
    context.fillStyle = colours.surface;
    const gap = cell >= 11 ? 2 : cell >= DETAILED ? 1 : 0;
    if (gap) {
      for (let column = firstColumn; column <= lastColumn; column += 1) {
        context.fillRect(x + column * cell - gap, y + firstRow * height, gap, high * height);
      }
    }
    for (let row = firstRow; row <= lastRow; row += 1) {
      context.fillRect(x + firstColumn * cell, y + row * height - 2, wide * cell, 2);
    }
    for (const [place, colour] of [[this.hovered, colours["ink-faint"]], [{ row: this.row, column: this.column }, colours.focus]]) {
      if (!place || !this.rows.length) continue;
      const [left, top] = [x + place.column * cell, y + place.row * height];
      context.strokeStyle = colour;
      context.lineWidth = 2;
      context.strokeRect(left - 1.5, top - 1.5, Math.max(cell, 5) + 1, height);
    }
    context.restore();
  }

  drawDetails(firstColumn, lastColumn, firstRow, lastRow, x, y) {
    const { context, cell, height, colours, codes } = this;
    const gap = cell >= 11 ? 2 : 1;
    const pale = [];
    const full = [];
    const crosses = [];
    const frames = [];
    for (let row = firstRow; row < lastRow; row += 1) {
      const cells = this.cells[this.rows[row]];
      for (let column = firstColumn; column < lastColumn; column += 1) {
        const code = cells[this.columns[column]];
        if (this.isMoving(code)) {
          const filled = Math.round(((height - 2) * (code - codes.moving)) / 100);
          const [left, top] = [x + column * cell, y + row * height];
          pale.push(left, top, cell - gap, height - 2 - filled);
          full.push(left, top + height - 2 - filled, cell - gap, filled);
        } else if (code === codes.failed) crosses.push(x + column * cell, y + row * height);
        else if (code === codes.unreachable || code === codes.evicted) frames.push(x + column * cell, y + row * height);
      }
    }
    for (const [colour, boxes] of [[colours["moving-pale"], pale], [colours.moving, full]]) {
      context.fillStyle = colour;
      for (let at = 0; at < boxes.length; at += 4) context.fillRect(boxes[at], boxes[at + 1], boxes[at + 2], boxes[at + 3]);
    }
    context.fillStyle = colours.surface;
    for (let at = 0; at < frames.length; at += 2) {
      context.fillRect(frames[at] + 2, frames[at + 1] + 2, cell - gap - 4, height - 6);
    }
    if (cell < 11) return;
    context.strokeStyle = colours.surface;
    context.lineWidth = 1.5;
    context.beginPath();
    const reach = Math.min(cell, height) / 2 - 4;
    for (let at = 0; at < crosses.length; at += 2) {
      const [middle, centre] = [crosses[at] + (cell - gap) / 2, crosses[at + 1] + (height - 2) / 2];
      context.moveTo(middle - reach, centre - reach);
      context.lineTo(middle + reach, centre + reach);
      context.moveTo(middle + reach, centre - reach);
      context.lineTo(middle - reach, centre + reach);
    }
    context.stroke();
  }

  drawNames({ firstRow, lastRow, y, tall }) {
    const { context, colours, gutter, height } = this;
    context.fillStyle = colours.surface;
    context.fillRect(0, RULER, gutter - 6, tall - RULER);
    context.save();
    context.beginPath();
    context.rect(0, RULER, gutter - 8, tall - RULER);
    context.clip();
    context.textBaseline = "middle";
    const margin = gutter < 200 ? 10 : 24;
    for (let row = firstRow; row < lastRow; row += 1) {
      const model = this.models[this.rows[row]];
      const middle = y + row * height + (height - 2) / 2;
      const chosen = row === this.row || row === this.hovered?.row;
      context.fillStyle = model.colour ? colours[model.colour] : colours.waiting;
      context.fillRect(margin, middle - 3, 6, 6);
      context.font = this.font;
      const figures = gutter < 200 ? "" : model.figures;
      const room = gutter - margin - 24 - (figures ? context.measureText(figures).width + 10 : 0);
      context.textAlign = "right";
      context.fillStyle = colours["ink-faint"];
      context.fillText(figures, gutter - 14, middle + 0.5);
      context.textAlign = "left";
      context.font = chosen ? this.strongFont : this.font;
      context.fillStyle = chosen ? colours.ink : colours["ink-soft"];
      context.fillText(this.fitted(model.name, room), margin + 13, middle + 0.5);
    }
    context.restore();
  }

  // A name with its middle left out, where ends tell more than middles; remembered, as measuring is slow.
  fitted(name, room) {
    this.fits ??= new Map();
    const key = `${Math.round(room)} ${this.context.font} ${name}`;
    let fit = this.fits.get(key);
    if (fit === undefined) {
      fit = name;
      for (let left = name.length - 1; left > 3 && this.context.measureText(fit).width > room; left -= 1) {
        fit = `${name.slice(0, Math.ceil(left * 0.6))}…${name.slice(name.length - Math.floor(left * 0.4))}`;
      }
      if (this.fits.size > 5000) this.fits.clear();
      this.fits.set(key, fit);
    }
    return fit;
  }

  drawRuler({ firstColumn, lastColumn, x, width }) {
    const { context, colours, gutter, cell } = this;
    context.fillStyle = colours.surface;
    context.fillRect(0, 0, width, RULER);
    context.save();
    context.beginPath();
    context.rect(gutter - 2, 0, width - gutter + 2, RULER);
    context.clip();
    context.font = this.font;
    context.textAlign = "left";
    context.textBaseline = "middle";
    const chosen = this.hovered ?? { column: this.column };
    const wanted = this.nodes[this.columns[chosen.column]];
    let free = -Infinity;
    const label = (column, colour, font) => {
      const left = x + column * cell;
      const name = this.nodes[this.columns[column]];
      context.font = font;
      context.fillStyle = colour;
      context.fillText(name, left, 10);
      context.fillRect(left, 20, 1, 4);
      return left + context.measureText(name).width + 18;
    };
    // Every label has its room; the chosen one comes before all others.
    let [from, until] = [Infinity, -Infinity];
    if (wanted && this.rows.length) {
      from = x + chosen.column * cell - 12;
      until = label(chosen.column, colours.ink, this.strongFont);
    }
    context.font = this.font;
    this.labelWidth = Math.max(60, ...this.nodes.slice(0, 50).map((name) => this.fittedWidth(name))) + 18;
    const every = Math.max(1, 5 * Math.ceil(this.labelWidth / cell / 5));
    for (let column = Math.ceil(firstColumn / every) * every; column < lastColumn; column += every) {
      const left = x + column * cell;
      if (left < free || (left + this.labelWidth - 18 > from && left < until)) continue;
      free = label(column, colours["ink-faint"], this.font);
    }
    context.restore();
    context.fillStyle = colours.line;
    context.fillRect(0, RULER - 2, width, 1);
  }

  fittedWidth(name) {
    this.widths ??= new Map();
    if (!this.widths.has(name)) {
      if (this.widths.size > 5000) this.widths.clear();
      this.widths.set(name, this.context.measureText(name).width);
    }
    return this.widths.get(name);
  }

  // What is at a point of the box; null between.
  at(clientX, clientY) {
    const frame = this.box.getBoundingClientRect();
    const [x, y] = [clientX - frame.left, clientY - frame.top];
    const row = Math.floor((y - RULER + this.box.scrollTop) / this.height);
    if (y < RULER || row >= this.rows.length) return null;
    if (x < this.gutter - 6) return { row, column: -1 };
    const column = Math.floor((x - this.gutter + this.box.scrollLeft) / this.cell);
    return column < 0 || column >= this.columns.length ? null : { row, column };
  }

  moveTo(row, column) {
    this.row = Math.max(0, Math.min(this.rows.length - 1, row));
    this.column = Math.max(0, Math.min(this.columns.length - 1, column));
    const { box, cell, height, gutter } = this;
    const [left, top] = [this.column * cell, this.row * height];
    box.scrollLeft = Math.min(left, Math.max(box.scrollLeft, left + cell * 2 - (box.clientWidth - gutter)));
    box.scrollTop = Math.min(top, Math.max(box.scrollTop, top + height * 2 - (box.clientHeight - RULER)));
    this.draw();
  }

  resize(steps) {
    const size = Math.max(0, Math.min(SIZES.length - 1, this.size + steps));
    if (size === this.size) return;
    this.size = size;
    this.moveTo(this.row, this.column);
  }

  // The largest size at which all columns are in sight.
  fit() {
    const room = this.box.clientWidth - this.gutter - 24;
    const fitting = SIZES.findLastIndex((size) => size * this.columns.length <= room);
    this.size = Math.max(1, fitting);
    this.draw();
  }

  get visibleRows() {
    return Math.max(1, Math.floor((this.box.clientHeight - RULER) / this.height) - 1);
  }
}
