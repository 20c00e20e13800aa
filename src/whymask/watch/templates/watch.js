// The page asks again every few seconds while it is looked at, and is changed only where something else is said.
let said = "";
async function renew() {
  if (document.hidden) return;
  try {
    const answer = await fetch("now", { cache: "no-store" });
    if (!answer.ok) throw new Error(answer.statusText);
    const now = await answer.text();
    if (now !== said) document.getElementById("seen").innerHTML = said = now;
    document.getElementById("lost").hidden = true;
  } catch {
    document.getElementById("lost").hidden = false;
  }
}
setInterval(renew, 3000);
document.addEventListener("visibilitychange", renew);
