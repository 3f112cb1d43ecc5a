# Any image with Python 3.11 or newer, the venv module and CA certificates works.
ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS build
# The first environment installs into the second, which is shipped and therefore has no pip.
RUN python3 -m venv /installer && python3 -m venv --without-pip /opt/keyturn
COPY requirements/run.txt /
RUN /installer/bin/pip --python /opt/keyturn install --no-cache-dir --require-hashes --no-deps --only-binary :all: -r /run.txt
COPY operator/keyturn /keyturn
# The package is pure Python, so copying it is equivalent to installing it.
RUN cp -R /keyturn /opt/keyturn/lib/python3.*/site-packages/ \
 && printf '#!/opt/keyturn/bin/python3\nfrom keyturn.cli import main\nmain()\n' >/opt/keyturn/bin/keyturn \
 && chmod 755 /opt/keyturn/bin/keyturn \
 && /opt/keyturn/bin/python3 -m compileall -q /opt/keyturn/lib/python3.*/site-packages/keyturn

FROM ${BASE_IMAGE}
COPY --from=build /opt/keyturn /opt/keyturn
ENV PATH=/opt/keyturn/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["keyturn"]
