// Whether what is shown is current, and what to do when it is not.
const mark = document.getElementById("connection");
const text = mark?.querySelector(".connection-text");
const notice = document.getElementById("notice");
let lastHeard = new Date();

export function live() {
  lastHeard = new Date();
  mark.dataset.state = "live";
  mark.title = "Live";
  text.textContent = "Live";
}

export function lost() {
  const clock = lastHeard.toLocaleTimeString("en", { hour12: false });
  mark.dataset.state = "lost";
  mark.title = text.textContent = `Reconnecting; this is from ${clock}`;
}

export function heard() {
  lastHeard = new Date();
}

// Why what the service knows may be old; empty text takes the notice away.
export function stale(why) {
  notice.hidden = !why;
  notice.textContent = why && `What you see may be old: ${why}`;
}

// Nothing more will come: the token has expired, or what is shown is not to be seen any more.
export function over(why, mayLogIn) {
  lost();
  mark.title = text.textContent = "Ended";
  notice.hidden = false;
  notice.textContent = `${why} `;
  if (mayLogIn) {
    const link = document.createElement("a");
    link.href = `/login?next=${encodeURIComponent(location.pathname)}`;
    link.textContent = "Sign in again";
    notice.append(link);
  }
}

// Whether it is worth connecting again: a token that has expired will not become valid.
export async function stillWelcome() {
  try {
    const answer = await fetch("/session", { headers: { Accept: "text/plain" } });
    if (answer.status !== 401) return true;
    over("Your token is not valid any more.", true);
    return false;
  } catch {
    return true;
  }
}
