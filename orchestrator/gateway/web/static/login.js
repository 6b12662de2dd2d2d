// The login form: one JSON request, so that no other site's form can send it. Afterwards it leads where its reader wanted to go,
// which the address still has behind its #.

// A page of its own such as /statement/RUN, or a view. A path alone, so it stays on this site.
function wanted() {
  const path = location.hash.slice(1);
  return /^\/((statement|node)\/.|fleet$)/.test(path) ? path : `/${location.hash}`;
}

const form = document.getElementById("form");
const problem = document.getElementById("problem");

const here = /^(localhost|127\.[0-9.]+|\[::1\])$/.test(location.hostname);
document.getElementById("plain").hidden = location.protocol === "https:" || here;

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  problem.textContent = "";
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    const answer = await fetch("/api/login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ password: document.getElementById("password").value }),
    });
    if (answer.ok) {
      location.replace(wanted());
      return;
    }
    problem.textContent = (await answer.json()).error;
  } catch {
    problem.textContent = "The gateway does not answer.";
  } finally {
    button.disabled = false;
  }
  document.getElementById("password").select();
});
