// What is moved sideways to be read can be moved by the keyboard too.
const reachable = () => {
  for (const box of document.querySelectorAll("pre, .katex-display")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  }
};
for (const event of ["load", "resize"]) addEventListener(event, reachable);
document.addEventListener("toggle", reachable, true);
