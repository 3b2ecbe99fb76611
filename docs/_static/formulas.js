// Shrink a formula that is wider than the page, to two thirds at most; what is wider still scrolls.
function fit() {
  for (const box of document.querySelectorAll("article div.math")) {
    box.style.removeProperty("--fit");
    const scale = box.clientWidth / box.scrollWidth;
    if (scale < 1) box.style.setProperty("--fit", Math.max(0.66, 0.98 * scale));
  }
}

document.fonts.ready.then(fit);
window.addEventListener("load", fit);
window.addEventListener("resize", fit);
