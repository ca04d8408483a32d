FROM debian AS tools
FROM debian
ARG WHERE=/var/cache
RUN --mount=type=cache,target=$WHERE/apt,sharing=locked --mount=type=cache,id=lists,target=/lists,mode=0700,uid=1 a
RUN --mount=target=. --mount=from=tools,source=/bin,target=/tools,rw b
RUN --mount=type=secret,id=token,env=TOKEN --mount=type=secret,id=key,target=/key,required,mode=0440 c
RUN --mount=type=tmpfs,target=/tmp,size=64m --mount=type=ssh d
