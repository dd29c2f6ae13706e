// What is moved sideways to be read can be moved by the keyboard too.
const reachable = () => {
  for (const box of document.querySelectorAll("pre, .katex-display")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  }
};
for (const event of ["load", "resize"]) addEventListener(event, reachable);
document.addEventListener("toggle", reachable, true);

// What is copied can be pasted into Python or a terminal: without prompts, without what is said below them, and with an
// empty line where an indented block ends, for which Python waits.
const withoutPrompts = text => {
  const python = /^>>> /m.test(text), prompt = python ? /^(>>>|\.\.\.)( |$)/ : /^\$ /;
  const typed = [];
  for (const line of text.split("\n")) {
    const last = typed.at(-1) ?? "";
    if (!prompt.test(line) && !(last.endsWith("\\") && !python)) continue;
    if (line.startsWith(">>>") && /^\s/.test(last)) typed.push("");
    typed.push(line.replace(prompt, ""));
  }
  if (python && /^\s/.test(typed.at(-1))) typed.push("");
  return typed.join("\n") + "\n";
};
addEventListener("copy", event => {
  const selection = getSelection();
  if (!selection.rangeCount) return;
  const range = selection.getRangeAt(0);
  const inOneBlock = [...document.querySelectorAll("pre")].some(block => block.contains(range.commonAncestorContainer));
  const text = range.cloneContents().textContent; // with the prompts, which cannot be selected
  if (!inOneBlock || !/^(>>>|\$) /m.test(text)) return;
  event.clipboardData.setData("text/plain", withoutPrompts(text));
  event.preventDefault();
});
