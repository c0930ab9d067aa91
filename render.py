from emitter.app.programs import render

if __name__ == "__main__":
    render()
