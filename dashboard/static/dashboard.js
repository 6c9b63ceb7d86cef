// Takes the secret token out of the address bar, so that nobody hands it on with a copied address.
// The cookie has it by now; without scripts everything works as well.
const address = new URL(location.href);
if (address.searchParams.has("token")) {
  address.searchParams.delete("token");
  history.replaceState(null, "", address);
}
