# The gateway, without a NATS server: give it NATS_URL. docker-compose.yml shows how.

FROM node:24-bookworm-slim AS build
WORKDIR /app
# npm reads it from the environment. Empty means npm's default.
ARG npm_config_registry
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY tsconfig.json tsconfig.build.json ./
COPY scripts/build.js scripts/
COPY src src
RUN npm run build && npm prune --omit=dev

FROM node:24-bookworm-slim
ENV NODE_ENV=production
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/dist dist
# Nothing here belongs to this user: it can run the gateway and not change it.
USER node
EXPOSE 9123
STOPSIGNAL SIGTERM
# /health, not /ready: whoever acts on an unhealthy container starts it again, and when NATS is away that would only cut
# off the watchers, who go on by themselves as soon as it is back. The gateway answers neither before it has reached NATS
# once. Load balancers ask /ready.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT || 9123}/health`).then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
CMD ["node", "dist/cli/main.js"]
