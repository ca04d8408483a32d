FROM debian AS parent
ONBUILD ARG X=1
ONBUILD COPY <<E /e
$X
E
ONBUILD RUN echo $X
FROM parent
USER nobody
