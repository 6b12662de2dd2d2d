// The login form: one JSON request, so that no other site's form can send it.

const form = document.getElementById("form");
const problem = document.getElementById("problem");

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
      location.replace("/");
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
