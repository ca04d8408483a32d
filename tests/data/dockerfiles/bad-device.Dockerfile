FROM a
RUN --device=x y
