// Shows the description of the API that lies beside this page. Tokens are kept for as long as the page is open.
window.addEventListener("load", () => {
  SwaggerUIBundle({
    dom_id: "#description",
    url: "openapi.json",
    deepLinking: true,
    docExpansion: "list",
    defaultModelsExpandDepth: 0,
    persistAuthorization: false,
    syntaxHighlight: { theme: "agate" },
  });
});
