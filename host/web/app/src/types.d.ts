declare module "*.css";

/** What browsers that check script addresses have; TypeScript does not know it yet. */
declare var trustedTypes: { createPolicy(name: string, rules: { createScriptURL(url: string): string }): { createScriptURL(url: string): unknown } } | undefined;
