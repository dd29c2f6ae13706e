// What a reader would see wrong in a page: cut off, too small, too pale, one above the other. All sizes in CSS pixels.
() => {
  const found = [];
  const say = (what, element) => found.push(`${what}: ${(element.textContent || element.id || element.tagName).trim().slice(0, 60)}`);
  const right = window.innerWidth + 0.5;
  const hidden = (element) => element.closest("thead") && getComputedStyle(element.closest("thead")).position === "absolute";
  const all = [...document.body.querySelectorAll("*")].filter((element) => !hidden(element));

  if (document.documentElement.scrollWidth > window.innerWidth) found.push("the page scrolls to the side");
  for (const element of all) {
    const box = element.getBoundingClientRect();
    if (box.width && (box.right > right || box.left < -0.5)) say(`beyond the screen (${box.left}..${box.right})`, element);
    if (!element.closest("svg") && element.scrollWidth > element.clientWidth + 1) say("cut off", element);
  }

  const names = [...document.querySelectorAll("[id]")].map(({ id }) => id);
  for (const name of new Set(names.filter((name, i) => names.indexOf(name) < i))) found.push(`several are called ${name}`);

  // Colors: a stack of layers, the topmost first, down to one that hides what is below.
  const rgba = (color, opacity = 1) => {
    const [red, green, blue, alpha = 1] = color.match(/[\d.]+/g).map(Number);
    return [red, green, blue, alpha * opacity];
  };
  const mixed = (layers) => layers.reduceRight((below, [red, green, blue, alpha]) =>
    [red, green, blue].map((value, i) => alpha * value + (1 - alpha) * below[i]), [255, 255, 255]);
  const luminance = (color) => {
    const [red, green, blue] = color.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const contrast = (one, other) => {
    const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  };
  const backgrounds = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(rgba(getComputedStyle(at).backgroundColor));
    return layers;
  };
  const behind = (text) => {
    const box = text.getBoundingClientRect();
    const shapes = document.elementsFromPoint(box.x + box.width / 2, box.y + box.height / 2)
      .filter((element) => element.tagName === "path" && getComputedStyle(element).fill !== "none");
    const layers = shapes.map((shape) => rgba(getComputedStyle(shape).fill, Number(getComputedStyle(shape).fillOpacity)));
    return mixed([...layers, ...backgrounds(text.closest("svg"))]);
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || element.closest("svg") || hidden(element)) continue;
    const paper = backgrounds(element);
    for (const pseudo of [null, "::before"]) {
      const style = getComputedStyle(element, pseudo);
      const seen = contrast(mixed([rgba(style.color), ...paper]), mixed(paper));
      if (seen < 4.5) say(`pale (${seen.toFixed(2)})`, element);
      if (parseFloat(style.fontSize) < 9) say(`small (${style.fontSize})`, element);
    }
  }

  for (const svg of document.querySelectorAll("svg")) {
    const frame = svg.getBoundingClientRect();
    const scale = frame.width / svg.viewBox.baseVal.width;
    const words = [...svg.querySelectorAll("text")].map((text) => ({ text, box: text.getBoundingClientRect() }));
    if (!words.length || !svg.getAttribute("aria-label")) say("no words", svg);
    for (const [i, { text, box }] of words.entries()) {
      if (box.left < frame.left - 0.5 || box.right > frame.right + 0.5 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1)
        say("cut off in its picture", text);
      if (parseFloat(getComputedStyle(text).fontSize) * scale < 9) say("small", text);
      const seen = contrast(rgba(getComputedStyle(text).fill), behind(text));
      if (seen < 4.5) say(`pale (${seen.toFixed(2)})`, text);
      for (const other of words.slice(0, i)) {
        const across = Math.min(box.right, other.box.right) - Math.max(box.left, other.box.left);
        const down = Math.min(box.bottom, other.box.bottom) - Math.max(box.top, other.box.top);
        if (across > 0.5 && down > 0.5) say(`over "${other.text.textContent}" (${across.toFixed(1)} x ${down.toFixed(1)})`, text);
      }
    }
    for (const path of svg.querySelectorAll("[id*='-line-'] > path, [id$='-ideal'] > path")) {
      const seen = contrast(rgba(getComputedStyle(path).stroke), mixed(backgrounds(svg)));
      if (seen < 3) found.push(`a pale line (${seen.toFixed(2)})`);
      for (let at = 0, end = path.getTotalLength(); at < end; at += 1) {
        const { x, y } = path.getPointAtLength(at).matrixTransform(path.getScreenCTM());
        // The box of a text is that of its font: letters leave some of it free above and below.
        const over = words.find(({ box }) => x > box.left && x < box.right && y > box.top + 0.2 * box.height && y < box.bottom - 0.2 * box.height);
        if (over) { say(`over ${path.parentElement.id}`, over.text); break; }
      }
    }
  }
  return found;
}
